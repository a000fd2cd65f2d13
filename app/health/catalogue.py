"""Whether the catalogue can be read and written: a database whose disk is full, or that somebody has locked, still answers queries."""

from __future__ import annotations

import asyncio

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, CatalogLocked

PROBE_SECONDS = 60.0
"""A write by anybody within this time will do; so an idle service writes once a minute, and one whose last write failed at each check."""
PATIENCE_SECONDS = 4.0
"""Less than a check may take: a database waits longer for a lock."""


class CatalogCheck:
    """One write is tried at a time, whoever asks; it may go on when a check has given up on it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._writing: asyncio.Task[CatalogError | None] | None = None

    async def check(self) -> None:
        """For readiness: raises what is wrong."""
        await self._catalog.ping()
        writing = self._writing
        if writing is None or writing.done():
            writing = self._writing = asyncio.create_task(self._write(), name="write to the catalogue")
        done, _ = await asyncio.wait([writing], timeout=PATIENCE_SECONDS)
        if not done:
            raise CatalogLocked(f"a write has waited for more than {PATIENCE_SECONDS:.0f} s")
        if (failure := writing.result()) is not None:
            raise failure

    async def aclose(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])

    async def _write(self) -> CatalogError | None:
        try:
            await self._catalog.try_write(PROBE_SECONDS)
        except CatalogError as error:
            return error
        return None
