"""Links to archives: what each was made to hold, until it expires. Only the hash of a link's token is kept."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, select

from app.catalog import tables
from app.catalog.engine import Database, now
from app.catalog.errors import Conflict, NotFound
from app.catalog.records import Archive

_archive = tables.archive


class Archives:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, owner_id: UUID, name: str, manifest: bytes, token_hash: bytes, expires_at: datetime
    ) -> Archive:
        """Raises `NotFound` for an unknown owner."""
        made = Archive(uuid4(), owner_id, name, manifest, now(), expires_at)
        values = {field: getattr(made, field) for field in Archive.__dataclass_fields__}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_archive).values(**values, token_hash=token_hash))
        except Conflict:
            raise NotFound("user", [owner_id]) from None
        return made

    async def by_hash(self, token_hash: bytes, moment: datetime) -> Archive | None:
        """The archive that a token opens, if it has not expired at that moment."""
        columns = [_archive.c[field] for field in Archive.__dataclass_fields__]
        statement = select(*columns).where(_archive.c.token_hash == token_hash, _archive.c.expires_at > moment)
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else Archive(*row)

    async def delete_expired(self, moment: datetime) -> int:
        """How many went."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_archive).where(_archive.c.expires_at <= moment))).rowcount
