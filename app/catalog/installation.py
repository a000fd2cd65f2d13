"""Installation-wide values: the installation's id, created once, and named flags."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, select, update

from app.catalog.database.engine import Database
from app.catalog.errors import ConstraintViolation
from app.catalog.schema import tables

_installation = tables.installation
_ID = "id"
ELECTED_FLAG = "elected:"
"""Prefix of the flags of processes that do work for all of them, see `app.jobs.elected_work`. The value names the term."""


class InstallationFlags:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_id(self) -> UUID:
        """The installation's id: the same in every process and after every restart. Created when there is none."""
        while True:
            known = await self.get_flag(_ID)
            if known is not None:
                return UUID(known)
            with suppress(ConstraintViolation):  # another process was first
                async with self._database.write() as connection:
                    await connection.execute(insert(_installation).values(name=_ID, value=str(uuid4())))

    async def has_id(self) -> bool:
        """False before the first start has created the id."""
        return await self.get_flag(_ID) is not None

    async def get_flag(self, name: str) -> str | None:
        statement = select(_installation.c.value).where(_installation.c.name == name)
        async with self._database.read() as connection:
            return (await connection.execute(statement)).scalar_one_or_none()

    async def set_flag(self, name: str, value: str) -> None:
        if await self._replace(name, value):
            return
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_installation).values(name=name, value=value))
        except ConstraintViolation:
            await self._replace(name, value)

    async def remove_flag(self, name: str, value: str) -> None:
        """Remove the flag if it has this value."""
        is_same = (_installation.c.name == name, _installation.c.value == value)
        async with self._database.write() as connection:
            await connection.execute(delete(_installation).where(*is_same))

    async def _replace(self, name: str, value: str) -> bool:
        statement = update(_installation).where(_installation.c.name == name).values(value=value)
        async with self._database.write() as connection:
            return (await connection.execute(statement)).rowcount == 1
