"""`GroupCommit`: transactions that are ready at the same moment share one commit.

A commit waits for the disk. Transactions that come meanwhile wait for it, and then all of them are carried out together: nobody waits for others
to come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.sqlite_driver import Transaction, TransactionOutcome

T = TypeVar("T")

MAX_TOGETHER = 32
"""Transactions that share one commit at most."""
CLOSE_SECONDS = 10.0

TakeTransactions = Callable[[], Sequence[Transaction[Any]]]
RunTogether = Callable[[TakeTransactions], Awaitable[Sequence[TransactionOutcome]]]


@dataclass(eq=False, slots=True)
class _Waiting:
    function: Transaction[Any]
    outcome: asyncio.Future[Any]
    counted: ExitStack
    on_begun: Callable[[], None]

    async def run(self, connection: AsyncConnection) -> Any:
        """In the connection's thread, which may have waited for a lock meanwhile."""
        if self.outcome.cancelled():
            raise Abandoned
        return await self.function(connection)


class Abandoned(Exception):
    """The caller was cancelled before its transaction began."""


class GroupCommit:
    """Use by one event loop only."""

    def __init__(self, run_together: RunTogether, count_waiting: Callable[[], AbstractContextManager[None]]) -> None:
        """`run_together` takes the transactions when it can carry them out, and raises what fails them all. `count_waiting` counts a transaction
        that waits, and raises where too many do."""
        self._run_together = run_together
        self._count_waiting = count_waiting
        self._queue: deque[_Waiting] = deque()
        self._running: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def run(self, function: Transaction[T], on_begun: Callable[[], None]) -> T:
        """The result of the transaction, once it is committed. `on_begun` is called when it no longer waits for others: until then a
        cancelled caller's transaction does not take place, afterwards it may."""
        with ExitStack() as counted:
            if self._task is not None:
                counted.enter_context(self._count_waiting())
            waiting = _Waiting(function, asyncio.get_running_loop().create_future(), counted, on_begun)
            self._queue.append(waiting)
            if self._task is None:
                self._task = asyncio.create_task(self._run_queue())
            return await waiting.outcome

    async def aclose(self) -> None:
        """Wait until the transactions that are under way have ended, but not for ever for a disk that hangs."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)

    async def _run_queue(self) -> None:
        try:
            while self._queue:
                present = list(self._queue)
                try:
                    outcomes = await self._run_together(self._take)
                except Exception as error:  # noqa: BLE001 - raised where the transactions are awaited
                    self._fail(self._running or present, error)
                else:
                    self._deliver(outcomes)
        finally:
            self._task = None
            for waiting in (*self._running, *self._queue):  # only where this task was cancelled
                waiting.outcome.cancel()
            self._running.clear()
            self._queue.clear()

    def _take(self) -> list[Transaction[Any]]:
        """The oldest transactions whose callers still wait."""
        while self._queue and len(self._running) < MAX_TOGETHER:
            waiting = self._queue.popleft()
            waiting.counted.close()
            if not waiting.outcome.done():
                waiting.on_begun()
                self._running.append(waiting)
        return [waiting.run for waiting in self._running]

    def _fail(self, failed: Sequence[_Waiting], error: Exception) -> None:
        for waiting in failed:
            if not waiting.outcome.done():
                waiting.outcome.set_exception(error)
        self._queue = deque(waiting for waiting in self._queue if waiting not in failed)
        self._running.clear()

    def _deliver(self, outcomes: Sequence[TransactionOutcome]) -> None:
        for waiting, (result, error) in zip(self._running, outcomes, strict=True):
            if waiting.outcome.done():
                continue
            if error is None:
                waiting.outcome.set_result(result)
            else:
                waiting.outcome.set_exception(error)
        self._running.clear()
