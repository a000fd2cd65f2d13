"""Tasks: what is to be made of each asset, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import tables
from app.catalog.records import AssetType, TaskKind, TaskState

_task = tables.task

KINDS = {AssetType.IMAGE: TaskKind.IMAGE, AssetType.VIDEO: TaskKind.VIDEO}
"""What an asset of that type wants; others want nothing."""


async def add(
    connection: AsyncConnection, assets: Iterable[tuple[UUID, AssetType]], moment: datetime, priority: int = 0
) -> None:
    """The tasks of new assets, in the transaction that makes them."""
    rows = [
        {
            "id": uuid4(),
            "asset_id": asset_id,
            "kind": KINDS[type_],
            "state": TaskState.PENDING,
            "priority": priority,
            "attempts": 0,
            "not_before": moment,
            "requested_at": moment,
            "created_at": moment,
            "updated_at": moment,
        }
        for asset_id, type_ in assets
        if type_ in KINDS
    ]
    if rows:
        await connection.execute(insert(_task), rows)
