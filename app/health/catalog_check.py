"""Whether the catalogue can be read and written: a database whose disk is full, or that somebody has locked, still answers queries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, CatalogLocked

PROBE_SECONDS = 60.0
"""A write by anybody within this time will do; so an idle service writes once a minute, and one whose last write failed at each check."""
WRITE_TIMEOUT_SECONDS = 4.0
"""Less than a check may take: a database waits longer for a lock."""


class CatalogCheck:
    """One read and one write are tried at a time, whoever asks; each may go on when a check has given up on it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._reading: asyncio.Task[CatalogError | None] | None = None
        self._writing: asyncio.Task[CatalogError | None] | None = None

    async def check(self) -> None:
        """For readiness: raises what is wrong."""
        began = time.monotonic()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(_failure_of(self._catalog.ping()), name="read of the catalogue")
        if not await _ends_in_time(self._reading, began):
            raise self._catalog.outages.no_answer(began, f"no answer within {WRITE_TIMEOUT_SECONDS:.0f} s")
        if self._writing is None or self._writing.done():
            write = self._catalog.check_writable(PROBE_SECONDS)
            self._writing = asyncio.create_task(_failure_of(write), name="write to the catalogue")
        if not await _ends_in_time(self._writing, began):
            raise CatalogLocked(f"a write has waited for more than {WRITE_TIMEOUT_SECONDS:.0f} s")

    async def aclose(self) -> None:
        running = [task for task in (self._reading, self._writing) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


async def _failure_of(call: Awaitable[None]) -> CatalogError | None:
    try:
        await call
    except CatalogError as error:
        return error
    return None


async def _ends_in_time(task: asyncio.Task[CatalogError | None], began: float) -> bool:
    """Raises what the task ended with."""
    done, _ = await asyncio.wait([task], timeout=max(0.0, began + WRITE_TIMEOUT_SECONDS - time.monotonic()))
    if done and (failure := task.result()) is not None:
        raise failure
    return bool(done)
