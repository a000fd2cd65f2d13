"""Checks that assets belong to an owner, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.errors import NotFound
from app.catalog.files import iterate_batches
from app.catalog.schema import tables

_asset = tables.asset


async def check_owned(connection: AsyncConnection, owner_id: UUID, asset_ids: Sequence[UUID]) -> None:
    """Raises `NotFound` with the ids that do not belong to the owner."""
    known: set[UUID] = set()
    for batch in iterate_batches(asset_ids):
        mine = select(_asset.c.id).where(_asset.c.owner_id == owner_id, _asset.c.id.in_(batch))
        known.update((await connection.execute(mine)).scalars())
    unknown = [asset_id for asset_id in dict.fromkeys(asset_ids) if asset_id not in known]
    if unknown:
        raise NotFound("asset", unknown)
