"""Runs work in one process of the installation only: the one that holds a lock. Another one takes over when it ends.

The lock ends with the process (see `app.catalog.database.process_locks`). A process that hangs keeps it, and nobody takes over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Self

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError

ELECTION_SECONDS = 2.0
"""How often a process without the lock tries to get it, and how often its holder checks that it was not lost."""

OpenWork = Callable[[], AbstractAsyncContextManager[object]]
"""Opens work that goes on in the background until the context ends. The end of the context waits for the end of the work."""

_log = structlog.get_logger(__name__)


class ElectedWork:
    """`name`: that of the lock (letters, digits and hyphens). `open_work`: what the elected process opens."""

    def __init__(self, catalog: Catalog, name: str, *open_work: OpenWork) -> None:
        self._catalog = catalog
        self._name = name
        self._open_work = open_work

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Stand for election until the block ends. Then the work ends, and the lock is released."""
        task = asyncio.create_task(self._run(), name=f"election of {self._name}")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            try:
                await self._work_while_elected()
            except CatalogError as error:
                if not self._catalog.outages.record_failure(error):
                    _log.warning("an election is tried again", work=self._name, reason=str(error))
            except Exception:  # noqa: BLE001 - the outermost edge of the task
                _log.exception("elected work failed", work=self._name)
            await asyncio.sleep(ELECTION_SECONDS)

    async def _work_while_elected(self) -> None:
        """Returns when another process holds the lock, or when it was lost."""
        async with self._catalog.try_lock(self._name) as lock:
            if lock is None:
                return
            _log.info("this process is elected", process=os.getpid(), work=self._name)
            try:
                async with AsyncExitStack() as stack:
                    for open_work in self._open_work:
                        await stack.enter_async_context(open_work())
                    while await lock.is_held():  # noqa: ASYNC110 - the database does not tell
                        await asyncio.sleep(ELECTION_SECONDS)
            finally:
                _log.info("this process gives its work up", process=os.getpid(), work=self._name)
