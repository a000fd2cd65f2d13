"""The owner's row as a lock for all rows of that owner, and as the counter of used bytes. Statements that run in the
caller's transaction.

A transaction that touches several rows of an owner locks the owner's row first, so that two transactions cannot
deadlock.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import case, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.errors import NotFound, QuotaExceeded
from app.catalog.schema import tables

_user = tables.user


async def lock_owner(connection: AsyncConnection, owner_id: UUID) -> None:
    # On SQLite a write transaction locks the whole database.
    await connection.execute(select(_user.c.id).where(_user.c.id == owner_id).with_for_update())


async def charge_quota(connection: AsyncConnection, owner_id: UUID, size: int) -> None:
    """Add `size` bytes to the owner's used bytes. Raises `QuotaExceeded`, or `NotFound` for an unknown owner."""
    within = or_(_user.c.quota.is_(None), _user.c.used + size <= _user.c.quota)
    charge = update(_user).where(_user.c.id == owner_id, within).values(used=_user.c.used + size)
    if (await connection.execute(charge)).rowcount == 1:
        return
    owner = (await connection.execute(select(_user.c.quota, _user.c.used).where(_user.c.id == owner_id))).one_or_none()
    if owner is None:
        raise NotFound("user", [owner_id])
    raise QuotaExceeded(owner.quota, owner.used, size)


async def refund_quota(connection: AsyncConnection, owner_id: UUID, size: int) -> None:
    """Subtract `size` bytes from the owner's used bytes."""
    used = case((_user.c.used > size, _user.c.used - size), else_=0)
    await connection.execute(update(_user).where(_user.c.id == owner_id).values(used=used))
