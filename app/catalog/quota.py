"""The owner's row as a lock for all rows of that owner, and as the counter of used bytes. Unfinished uploads reserve
bytes beside those. Statements that run in the caller's transaction.

A transaction that touches several rows of an owner locks the owner's row first, so that two transactions cannot
deadlock. The insert of an upload touches only rows of its own, and charges the quota last: that lock is what uploads of one
owner wait for, in all processes. It begins with a shared lock, which uploads do not wait for. Without it, one that has entered
its checksum into the index would wait for a transaction that holds the owner's row and waits for that entry.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, BindParameter, Select, Update, bindparam, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.prepared_statements import prepare
from app.catalog.errors import NotFound, QuotaExceeded
from app.catalog.schema import tables
from app.catalog.schema.upload_records import OPEN_UPLOAD_STATES

_upload = tables.upload
_user = tables.user


_LOCK = prepare(select(_user.c.id).where(_user.c.id == bindparam("locked_owner_id")).with_for_update())


_SHARE = prepare(
    select(_user.c.id).where(_user.c.id == bindparam("shared_owner_id")).with_for_update(read=True, key_share=True)
)


async def share_owner(connection: AsyncConnection, owner_id: UUID) -> None:
    """Wait for a transaction that has locked the owner's row, and keep others from locking it. Charging the quota is no such lock."""
    await connection.execute(_SHARE, {"shared_owner_id": owner_id})


async def lock_owner(connection: AsyncConnection, owner_id: UUID) -> None:
    # On SQLite a write transaction locks the whole database.
    await connection.execute(_LOCK, {"locked_owner_id": owner_id})


async def charge_quota(connection: AsyncConnection, owner_id: UUID, size: int) -> None:
    """Add `size` bytes to the owner's used bytes. Raises `QuotaExceeded`, or `NotFound` for an unknown owner."""
    if (await connection.execute(_CHARGE, {"charged_owner_id": owner_id, "charged_size": size})).rowcount != 1:
        await check_quota(connection, owner_id, size)
        raise NotFound("user", [owner_id])


async def check_quota(connection: AsyncConnection, owner_id: UUID, size: int, *, upload_id: UUID | None = None) -> None:
    """Raises `QuotaExceeded` where `size` more bytes would exceed the owner's quota, `upload_id`'s reservation not
    counted. Does nothing for an unknown owner."""
    limits = await read_usage(connection, owner_id, upload_id=upload_id)
    if limits is not None and limits[1] + size > limits[0]:
        raise QuotaExceeded(*limits, size)


async def read_usage(
    connection: AsyncConnection, owner_id: UUID, *, upload_id: UUID | None = None
) -> tuple[int, int] | None:
    """The owner's quota, and the bytes that are used or reserved, without those that `upload_id` reserves. None without
    a quota."""
    found = await connection.execute(select(_user.c.quota, _user.c.used).where(_user.c.id == owner_id))
    owner = found.one_or_none()
    if owner is None or owner.quota is None:
        return None
    reserved = _reserved_bytes(owner_id)
    if upload_id is not None:
        reserved = reserved.where(_upload.c.id != upload_id)
    return owner.quota, owner.used + int((await connection.execute(reserved)).scalar_one())


def _reserved_bytes(owner_id: UUID | BindParameter[Any]) -> Select[int]:
    """The bytes that the owner's unfinished uploads reserve: the length of each, where it is known."""
    size = func.coalesce(_upload.c.length, _upload.c.offset)
    mine = (_upload.c.owner_id == owner_id) & _upload.c.state.in_(OPEN_UPLOAD_STATES)
    return select(func.coalesce(func.sum(size), 0).label("reserved")).where(mine)


async def refund_quota(connection: AsyncConnection, owner_id: UUID, size: int) -> None:
    """Subtract `size` bytes from the owner's used bytes."""
    used = case((_user.c.used > size, _user.c.used - size), else_=0)
    await connection.execute(update(_user).where(_user.c.id == owner_id).values(used=used))


def _build_charge() -> Update:
    owner_id, size = bindparam("charged_owner_id", type_=_user.c.id.type), bindparam("charged_size", type_=BigInteger())
    needed = _user.c.used + _reserved_bytes(owner_id).scalar_subquery() + size
    within = or_(_user.c.quota.is_(None), needed <= _user.c.quota)
    return update(_user).where(_user.c.id == owner_id, within).values(used=_user.c.used + size)


_CHARGE = prepare(_build_charge())
