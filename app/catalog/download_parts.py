"""Downloads that come in several archives: what was planned for each, until the archives have been asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, insert, select

from app.catalog import quota, tables
from app.catalog.engine import Database
from app.catalog.files import batches

_part = tables.download_part

Names = Mapping[UUID, str]
"""Of the members that are not called by their own names."""


class DownloadParts:
    """A part is known by the assets that it holds, in whatever order: that is all that a client sends when it asks for the archive. Where two
    plans share a part, the later one counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, owner_id: UUID, parts: Mapping[bytes, Names], expires_at: datetime) -> None:
        """`parts` by their digests."""
        rows = [
            {
                "owner_id": owner_id,
                "digest": digest,
                "names": {str(asset_id): name for asset_id, name in names.items()},
                "expires_at": expires_at,
            }
            for digest, names in parts.items()
            if names
        ]
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            for batch in batches(parts):
                mine = (_part.c.owner_id == owner_id) & _part.c.digest.in_(batch)
                await connection.execute(delete(_part).where(mine))
            if rows:
                await connection.execute(insert(_part), rows)

    async def names(self, owner_id: UUID, digest: bytes, moment: datetime) -> Names:
        """Empty for what was not planned, or so long ago that it has expired at that moment."""
        mine = (_part.c.owner_id == owner_id) & (_part.c.digest == digest) & (_part.c.expires_at > moment)
        async with self._database.read() as connection:
            names = (await connection.execute(select(_part.c.names).where(mine))).scalar_one_or_none()
        return {UUID(asset_id): name for asset_id, name in (names or {}).items()}

    async def delete_expired(self, moment: datetime) -> int:
        """How many went."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_part).where(_part.c.expires_at <= moment))).rowcount


def part_digest(asset_ids: Iterable[UUID]) -> bytes:
    return hashlib.sha256(b"".join(sorted(asset_id.bytes for asset_id in asset_ids))).digest()
