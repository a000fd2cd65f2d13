"""Readiness check of the catalogue: one query and one write. The write is needed since a database that is locked, or whose disk is full, still
answers queries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, CatalogLocked

PROBE_SECONDS = 60.0
"""Any successful write within this time counts. So an idle service writes once a minute, and one whose last write failed writes at each check."""
WRITE_TIMEOUT_SECONDS = 4.0
"""Time-out of a check, for query and write together. Less than `readiness.CHECK_SECONDS`, since a database waits longer for a lock."""


class CatalogCheck:
    """At most one query and one write run at a time; callers share them. Each goes on after a check has timed out."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._reading: asyncio.Task[CatalogError | None] | None = None
        self._writing: asyncio.Task[CatalogError | None] | None = None

    async def check(self) -> None:
        """Raises `CatalogError` if the catalogue cannot be read or written in time."""
        began = time.monotonic()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(_catch_error(self._catalog.ping()), name="read of the catalogue")
        if not await _finishes_in_time(self._reading, began):
            raise self._catalog.outages.build_timeout_error(began, f"no answer within {WRITE_TIMEOUT_SECONDS:.0f} s")
        if self._writing is None or self._writing.done():
            write = self._catalog.check_writable(PROBE_SECONDS)
            self._writing = asyncio.create_task(_catch_error(write), name="write to the catalogue")
        if not await _finishes_in_time(self._writing, began):
            raise CatalogLocked(f"a write has waited for more than {WRITE_TIMEOUT_SECONDS:.0f} s")

    async def aclose(self) -> None:
        running = [task for task in (self._reading, self._writing) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


async def _catch_error(call: Awaitable[None]) -> CatalogError | None:
    """The error instead of an exception: a task that nobody awaits must not log one."""
    try:
        await call
    except CatalogError as error:
        return error
    return None


async def _finishes_in_time(task: asyncio.Task[CatalogError | None], began: float) -> bool:
    """Whether the task ends within `WRITE_TIMEOUT_SECONDS` of `began`. Raises its error."""
    done, _ = await asyncio.wait([task], timeout=max(0.0, began + WRITE_TIMEOUT_SECONDS - time.monotonic()))
    if done and (failure := task.result()) is not None:
        raise failure
    return bool(done)
