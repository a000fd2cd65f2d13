"""Searches whose result is a number or a random choice. `AssetRepository.search` returns pages."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

from sqlalchemy import func

from app.catalog.assets.access_paths import choose_access_path
from app.catalog.assets.asset_queries import asset_from_row, select_assets_with_files, select_matching
from app.catalog.database.engine import Database
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, AssetFilters

_asset = tables.asset


class SearchRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, owner_id: UUID, filters: AssetFilters) -> int:
        """How many of the owner's assets match."""
        async with self._database.read() as connection:
            path = await choose_access_path(connection, owner_id, filters, None)
            counted = select_matching(owner_id, filters, path, func.count())
            return (await connection.execute(counted)).scalar_one()

    async def choose(self, owner_id: UUID, filters: AssetFilters, size: int) -> list[Asset]:
        """At most `size` of the owner's matching assets, in random order. Those whose ids follow a random id, as in Immich:
        ids are random, and sorting all assets by a random number would read them all."""
        start = uuid4()
        chosen: list[Asset] = []
        async with self._database.read() as connection:
            path = await choose_access_path(connection, owner_id, filters, "id")
            matching = select_matching(owner_id, filters, path, _asset.c.id).order_by(_asset.c.id)
            for part in (_asset.c.id >= start, _asset.c.id < start):
                ids = matching.where(part).limit(size - len(chosen))
                page = select_assets_with_files().where(_asset.c.id.in_(ids)).order_by(_asset.c.id)
                chosen += [asset_from_row(row) for row in await connection.execute(page)]
                if len(chosen) == size:
                    break
        random.SystemRandom().shuffle(chosen)
        return chosen
