"""A user's row as the lock of all that is theirs, and as the count of the bytes they keep. Statements inside a caller's transaction.

Transactions that touch several rows of an owner lock the owner's row first, so that no two wait for each other in a circle.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import case, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.errors import NotFound, QuotaExceeded
from app.catalog.schema import tables

_user = tables.user


async def lock_owner(connection: AsyncConnection, owner_id: UUID) -> None:
    # On SQLite the transaction has the whole database to itself.
    await connection.execute(select(_user.c.id).where(_user.c.id == owner_id).with_for_update())


async def charge_quota(connection: AsyncConnection, owner_id: UUID, size: int) -> None:
    """`size` bytes more are kept. Raises `QuotaExceeded`, `NotFound` for an unknown owner."""
    within = or_(_user.c.quota.is_(None), _user.c.used + size <= _user.c.quota)
    charged = update(_user).where(_user.c.id == owner_id, within).values(used=_user.c.used + size)
    if (await connection.execute(charged)).rowcount == 1:
        return
    owner = (await connection.execute(select(_user.c.quota, _user.c.used).where(_user.c.id == owner_id))).one_or_none()
    if owner is None:
        raise NotFound("user", [owner_id])
    raise QuotaExceeded(owner.quota, owner.used, size)


async def refund_quota(connection: AsyncConnection, owner_id: UUID, size: int) -> None:
    """`size` bytes are no longer kept."""
    used = case((_user.c.used > size, _user.c.used - size), else_=0)
    await connection.execute(update(_user).where(_user.c.id == owner_id).values(used=used))
