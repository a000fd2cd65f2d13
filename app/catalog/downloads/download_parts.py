"""Member names of downloads that are split into several archives: stored when the download is planned, until the plan
expires. Each archive is built by a request of its own, and must use the names that repeat in none of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.database.engine import Database
from app.catalog.files import iterate_batches
from app.catalog.schema import tables

MAX_NAMES_PER_OWNER = 500_000
"""Names stored for one owner, about 100 bytes each; the latest plan alone may have more."""

_part = tables.download_part

MemberNames = Mapping[UUID, str]
"""Names by asset id, of the members that are not called by their own names."""


class DownloadPartRepository:
    """A part is identified by the set of its assets: the client sends nothing else when it requests the archive. If two
    plans have a part in common, the later plan's names are used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store_parts(self, owner_id: UUID, parts: Mapping[bytes, MemberNames], expires_at: datetime) -> None:
        """Store the parts of one plan by their digests. If the owner has more than `MAX_NAMES_PER_OWNER` names, whole
        plans are deleted, the oldest first."""
        rows = [
            {
                "owner_id": owner_id,
                "digest": digest,
                "names": {str(asset_id): name for asset_id, name in names.items()},
                "name_count": len(names),
                "expires_at": expires_at,
            }
            for digest, names in parts.items()
            if names
        ]
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            for batch in iterate_batches(parts):
                mine = (_part.c.owner_id == owner_id) & _part.c.digest.in_(batch)
                await connection.execute(delete(_part).where(mine))
            if rows:
                await connection.execute(insert(_part), rows)
                await _drop_oldest(connection, owner_id, expires_at)

    async def get_names(self, owner_id: UUID, digest: bytes, moment: datetime) -> MemberNames:
        """Returns no names when the part was not planned, or when its plan has expired at `moment`."""
        mine = (_part.c.owner_id == owner_id) & (_part.c.digest == digest) & (_part.c.expires_at > moment)
        async with self._database.read() as connection:
            names = (await connection.execute(select(_part.c.names).where(mine))).scalar_one_or_none()
        return {UUID(asset_id): name for asset_id, name in (names or {}).items()}

    async def delete_expired(self, moment: datetime) -> int:
        """Returns how many were deleted."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_part).where(_part.c.expires_at <= moment))).rowcount


async def _drop_oldest(connection: AsyncConnection, owner_id: UUID, latest: datetime) -> None:
    """The parts of a plan have the same expiry time, and parts of different plans do not: it identifies the plan."""
    mine = _part.c.owner_id == owner_id
    # The window function sums up rows of the same expiry time together, and so whole plans.
    up_to = func.sum(_part.c.name_count).over(order_by=_part.c.expires_at.desc()).label("up_to")
    plans = select(_part.c.expires_at, up_to).where(mine).subquery()
    oldest = select(func.max(plans.c.expires_at)).where(
        plans.c.up_to > MAX_NAMES_PER_OWNER, plans.c.expires_at != latest
    )
    bound = (await connection.execute(oldest)).scalar_one()
    if bound is not None:
        older = (_part.c.expires_at <= bound) & (_part.c.expires_at != latest)
        await connection.execute(delete(_part).where(mine, older))


def compute_part_digest(asset_ids: Iterable[UUID]) -> bytes:
    return hashlib.sha256(b"".join(sorted(asset_id.bytes for asset_id in asset_ids))).digest()
