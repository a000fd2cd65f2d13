"""What is made from an asset, to be made again: its file is lost or damaged, and the original is there."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import tables, tasks
from app.catalog.engine import Database, now
from app.catalog.records import AssetType, TaskState

_asset = tables.asset
_derivative = tables.derivative
_task = tables.task


class Remaking:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(self, file_id: UUID) -> bool:
        """All that is made from the asset that this file was made from, from now on. False: no derivative has this file (any more)."""
        made_from = (
            select(_asset.c.id, _asset.c.type)
            .join(_derivative, _derivative.c.asset_id == _asset.c.id)
            .where(_derivative.c.file_id == file_id)
        )
        async with self._database.write() as connection:
            asset = (await connection.execute(made_from)).one_or_none()
            if asset is not None:
                await _renew(connection, asset.id, asset.type)
        return asset is not None


async def _renew(connection: AsyncConnection, asset_id: UUID, type_: AssetType) -> None:
    moment = now()
    values = {
        "state": TaskState.PENDING,
        "attempts": 0,
        "error": None,
        "run_id": None,  # whoever is at it has seen the old request
        "not_before": moment,
        "requested_at": moment,
        "updated_at": moment,
    }
    found = await connection.execute(update(_task).where(_task.c.asset_id == asset_id).values(values))
    if not found.rowcount:
        await tasks.add(connection, [(asset_id, type_)], moment)
