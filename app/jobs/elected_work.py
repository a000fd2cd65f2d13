"""Runs work in one process of the installation only: the one that holds a lock. Another one takes over when it ends.

The lock ends with the process (see `app.catalog.database.process_locks`). A process that hangs keeps it, and nobody takes over.

In PostgreSQL the lock also ends with its connection, and its holder notices that only at the next check. A flag of the installation tells whether
the former holder has ended its work in an orderly way. If not, whoever gets the lock waits until the former holder must have noticed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Self
from uuid import uuid4

import structlog

from app.catalog.catalog import Catalog
from app.catalog.database.process_locks import ProcessLock
from app.catalog.errors import CatalogError
from app.catalog.installation import ELECTED_FLAG

ELECTION_SECONDS = 2.0
"""How often a process without the lock tries to get it, and how often its holder checks that it was not lost. A check that takes longer counts as
lost."""
FORMER_HOLDER_SECONDS = 2.5 * ELECTION_SECONDS
"""How long a former holder may work on after it lost the lock: a pause between checks, a check, and the end of the work."""

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
            watch = _LockWatch(lock)
            try:
                if lock.can_be_lost:
                    async with self._recorded_term(watch) as is_elected:
                        if is_elected:
                            await self._work(watch)
                else:
                    await self._work(watch)
            finally:
                await watch.finish()

    async def _work(self, watch: _LockWatch) -> None:
        _log.info("this process is elected", process=os.getpid(), work=self._name)
        try:
            async with AsyncExitStack() as stack:
                for open_work in self._open_work:
                    await stack.enter_async_context(open_work())
                await watch.wait_until_lost()
        finally:
            _log.info("this process gives its work up", process=os.getpid(), work=self._name)

    @asynccontextmanager
    async def _recorded_term(self, watch: _LockWatch) -> AsyncIterator[bool]:
        """Have a flag within the block, and wait first if the former holder left its own. Yields False if the lock was lost meanwhile. Raises
        `CatalogError`."""
        flags, flag, term = self._catalog.installation, ELECTED_FLAG + self._name, uuid4().hex
        if await flags.get_flag(flag) is not None and await watch.wait_until_lost(FORMER_HOLDER_SECONDS):
            yield False
            return
        await flags.set_flag(flag, term)
        try:
            yield True
        finally:
            try:
                await flags.remove_flag(flag, term)
            except CatalogError as error:
                self._catalog.outages.record_failure(error)


class _LockWatch:
    """Checks regularly whether a lock is still held."""

    def __init__(self, lock: ProcessLock) -> None:
        self._lock = lock
        self._check: asyncio.Task[bool] | None = None

    async def wait_until_lost(self, within: float = float("inf")) -> bool:
        """Returns whether the lock was lost within so many seconds."""
        end = time.monotonic() + within
        while True:
            self._check = self._check or asyncio.create_task(self._lock.is_held())
            done, _ = await asyncio.wait([self._check], timeout=ELECTION_SECONDS)
            if not done or not self._check.result():
                return True
            self._check = None
            left = end - time.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, ELECTION_SECONDS))

    async def finish(self) -> None:
        """Wait for the end of a check that takes too long: it uses the connection of the lock."""
        if self._check is not None:
            await asyncio.wait([self._check])
