"""Adds to an existing asset what an upload of the same content brings and the asset lacks."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota, tasks
from app.catalog.database.engine import Database, now
from app.catalog.errors import QuotaExceeded, WriteLeaseLost
from app.catalog.files import make_live, mark_unfinished_for_deletion
from app.catalog.schema import tables
from app.catalog.schema.records import StoredFile

_asset = tables.asset


class DuplicateAddition(StrEnum):
    """What a duplicate added to the existing asset."""

    SIDECAR = "sidecar"
    FAVORITE = "favorite"


class DuplicateUploadRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def complete_asset(
        self, owner_id: UUID, asset_id: UUID, sidecar: StoredFile | None, *, is_favorite: bool
    ) -> tuple[DuplicateAddition, ...]:
        """Add the sidecar if the asset has none, and make it a favourite if `is_favorite`, in one transaction. Returns
        what was added: nothing if the asset was deleted meanwhile.

        A new sidecar counts against the quota, and the asset's metadata is read again. A sidecar that was not added is
        marked for deletion. Raises `QuotaExceeded` and `WriteLeaseLost`; then nothing is added.
        """
        try:
            async with self._database.write() as connection:
                return await _complete_asset(connection, owner_id, asset_id, sidecar, is_favorite=is_favorite)
        except (QuotaExceeded, WriteLeaseLost):
            async with self._database.write() as connection:
                await _discard(connection, sidecar)
            raise


async def _complete_asset(
    connection: AsyncConnection, owner_id: UUID, asset_id: UUID, sidecar: StoredFile | None, *, is_favorite: bool
) -> tuple[DuplicateAddition, ...]:
    await quota.lock_owner(connection, owner_id)
    mine = (_asset.c.id == asset_id) & (_asset.c.owner_id == owner_id)
    statement = select(_asset.c.sidecar_id, _asset.c.is_favorite).where(mine).with_for_update()
    asset = (await connection.execute(statement)).one_or_none()
    added: list[DuplicateAddition] = []
    values: dict[str, Any] = {}
    if asset is None or asset.sidecar_id is not None:
        await _discard(connection, sidecar)
    elif sidecar is not None:
        await make_live(connection, owner_id, sidecar)
        await quota.charge_quota(connection, owner_id, sidecar.size)
        await tasks.request_reading(connection, [asset_id])
        values["sidecar_id"] = sidecar.file_id
        added.append(DuplicateAddition.SIDECAR)
    if asset is not None and is_favorite and not asset.is_favorite:
        values["is_favorite"] = True
        added.append(DuplicateAddition.FAVORITE)
    if values:
        await connection.execute(update(_asset).where(mine).values(values | {"updated_at": now()}))
    return tuple(added)


async def _discard(connection: AsyncConnection, sidecar: StoredFile | None) -> None:
    if sidecar is not None:
        await mark_unfinished_for_deletion(connection, [sidecar.file_id])
