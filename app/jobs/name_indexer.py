"""Keeps the index of names, by which searches find assets, up to date. One process of the installation does (see `elected_work`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.periodic_task import PeriodicTask

FILL_SECONDS = 60.0
CHECK_SECONDS = 3600.0
"""Where the index is made once. If the database refuses it, it is tried again after this: its operator may have allowed it."""


class NameIndexer:
    def __init__(self, catalog: Catalog) -> None:
        self._task = PeriodicTask(
            "the index of names",
            catalog.name_index.update,
            FILL_SECONDS if catalog.name_index.is_filled_in_batches else CHECK_SECONDS,
            expected_errors=(CatalogError,),
            is_logged=catalog.outages.record_failure,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Update the index until the block ends, beside the sweeper: its build waits for older transactions."""
        async with self._task.running():
            yield
