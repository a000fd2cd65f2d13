"""The XMP sidecars of files of external libraries, as the last scan found them. They have no rows of their own: each file has the name, size and
modification time of its sidecar, which may belong to several files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import tasks
from app.catalog.assets.asset_removal import reset_folder_digests
from app.catalog.database.engine import Database
from app.catalog.schema import tables
from app.catalog.schema.library_records import ListedSidecar

_folder = tables.library_folder
_library_file = tables.library_file

_COLUMNS = ("sidecar_name", "sidecar_size", "sidecar_mtime_ns")
_UNREAD_SIZE = -1
"""The size of a sidecar that could not be read: no file has it."""


class LibrarySidecarRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_path(self, asset_id: UUID) -> str | None:
        """The path of the sidecar that the last scan found; None when there was none."""
        joined = select(_folder.c.path, _library_file.c.sidecar_name).join(
            _folder, _library_file.c.folder_id == _folder.c.id
        )
        found = joined.where(_library_file.c.asset_id == asset_id, _library_file.c.sidecar_name.is_not(None))
        async with self._database.read() as connection:
            row = (await connection.execute(found)).one_or_none()
        return None if row is None else f"{row.path}/{row.sidecar_name}"

    async def mark_unread(self, asset_id: UUID) -> None:
        """Mark the sidecar as one that could not be read: the next scan takes it for changed, or for gone."""
        async with self._database.write() as connection:
            await reset_folder_digests(connection, [asset_id])
            mine = (_library_file.c.asset_id == asset_id) & _library_file.c.sidecar_name.is_not(None)
            await connection.execute(update(_library_file).where(mine).values(sidecar_size=_UNREAD_SIZE))


async def write_sidecars(connection: AsyncConnection, sidecars: Sequence[tuple[UUID, ListedSidecar | None]]) -> None:
    """Store which sidecars the files have, and request their metadata to be read again."""
    rows = [
        {"of_asset": asset_id} | {f"new_{name}": value for name, value in sidecar_values(sidecar).items()}
        for asset_id, sidecar in sidecars
    ]
    values = {name: bindparam(f"new_{name}") for name in _COLUMNS}
    changed = update(_library_file).where(_library_file.c.asset_id == bindparam("of_asset")).values(values)
    await connection.execute(changed, rows)
    await tasks.request_reading(connection, [asset_id for asset_id, _ in sidecars])


def sidecar_values(sidecar: ListedSidecar | None) -> dict[str, Any]:
    return dict(zip(_COLUMNS, sidecar or (None, None, None), strict=True))
