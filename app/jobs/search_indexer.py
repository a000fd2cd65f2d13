"""Keeps the indexes by which searches find assets up to date. One process of the installation does (see `elected_work`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.periodic_task import PeriodicTask

FILL_SECONDS = 60.0
CHECK_SECONDS = 3600.0
"""Where the indexes are made once. If the database refuses one, it is tried again after this: its operator may have allowed it."""


class SearchIndexer:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._task = PeriodicTask(
            "the indexes for searches",
            self._update,
            FILL_SECONDS if catalog.name_index.is_filled_in_batches else CHECK_SECONDS,
            expected_errors=(CatalogError,),
            is_logged=catalog.outages.record_failure,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Update the indexes until the block ends, beside the sweeper: a build waits for older transactions."""
        async with self._task.running():
            yield

    async def _update(self) -> None:
        await self._catalog.name_index.update()
        await self._catalog.exif_indexes.update()
