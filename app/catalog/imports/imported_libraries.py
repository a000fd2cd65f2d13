"""Takes over external libraries. Their files are in `imported_assets`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import insert, select, update

from app.catalog.database.engine import Database, now
from app.catalog.schema import tables
from app.catalog.schema.import_records import ImportedLibrary
from app.catalog.schema.library_records import LibraryState

_library = tables.library


class ImportedLibraryRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_ids(self) -> set[UUID]:
        """The libraries that were taken over."""
        async with self._database.read() as connection:
            return set((await connection.execute(select(_library.c.id).where(_library.c.is_foreign))).scalars())

    async def apply(self, libraries: Sequence[ImportedLibrary]) -> None:
        """Insert and update libraries, which this service does not scan."""
        async with self._database.write() as connection:
            for library in libraries:
                values = {
                    "owner_id": library.owner_id, "name": library.name, "import_paths": list(library.import_paths),
                    "exclusion_patterns": list(library.exclusion_patterns), "created_at": library.created_at,
                    "updated_at": library.updated_at, "is_foreign": True,
                }  # fmt: skip
                found = select(_library).where(_library.c.id == library.id)
                known = (await connection.execute(found)).mappings().one_or_none()
                if known is None:
                    initial = {
                        "state": LibraryState.OK, "state_since": now(), "state_error": None, "deleted_at": None, "files": 0,
                        "mounts": [],
                    }  # fmt: skip
                    await connection.execute(insert(_library).values(id=library.id, **values, **initial))
                elif any(known[name] != value for name, value in values.items()):
                    await connection.execute(update(_library).where(_library.c.id == library.id).values(values))
