"""How far each installation of Immich was taken over: table `immich_source`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import Database
from app.catalog.schema import tables
from app.catalog.schema.import_records import ImportPhase, ImportSource

_source = tables.immich_source


class ImportSourceRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> ImportSource | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(_source).where(_source.c.name == name))).mappings().one_or_none()
        if row is None:
            return None
        users = None if row["users"] is None else tuple(row["users"])
        return ImportSource(**{**row, "media_roots": tuple(row["media_roots"]), "users": users})

    async def begin(self, source: ImportSource) -> None:
        """Store the beginning of a run that compares everything. `followed_to` and `compared_at` of an earlier run stay."""
        values = asdict(source) | {
            "media_roots": list(source.media_roots),
            "users": None if source.users is None else list(source.users),
        }
        for kept in ("followed_to", "compared_at"):
            values.pop(kept)
        async with self._database.write() as connection:
            mine = _source.c.name == source.name
            if (await connection.execute(update(_source).where(mine).values(values))).rowcount == 0:
                await connection.execute(insert(_source).values(values))

    async def enter_phase(self, name: str, phase: ImportPhase) -> None:
        await self._update(name, {"phase": phase, "after_id": None})

    async def finish(self, name: str, begun_at: datetime) -> None:
        """A run that compared everything is complete."""
        values = {"phase": ImportPhase.DONE, "after_id": None, "followed_to": begun_at, "compared_at": begun_at}
        await self._update(name, values)

    async def follow_to(self, name: str, moment: datetime) -> None:
        """Everything that the source wrote before `moment` was seen."""
        await self._update(name, {"followed_to": moment})

    async def _update(self, name: str, values: dict[str, Any]) -> None:
        async with self._database.write() as connection:
            await connection.execute(update(_source).where(_source.c.name == name).values(values))


async def store_progress(connection: AsyncConnection, name: str, after_id: UUID) -> None:
    """Call it in the transaction that writes the rows up to `after_id`."""
    await connection.execute(update(_source).where(_source.c.name == name).values(after_id=after_id))
