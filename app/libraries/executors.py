"""A thread pool for each library: a disk that hangs blocks the threads of its own library only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, cast
from uuid import UUID

from app.storage.local.daemon_executor import DaemonExecutor

T = TypeVar("T")

LIBRARY_THREADS = 6
CHECK_THREADS = 4


class LibraryExecutors:
    """The thread pools of all libraries, and one shared pool. Threads are daemonic: a call that hangs on a dead disk blocks neither callers nor
    process exit."""

    def __init__(self) -> None:
        self._executors: dict[UUID, DaemonExecutor] = {}
        self._shared_executor = DaemonExecutor("library-check", CHECK_THREADS)
        self._running_calls: dict[object, tuple[asyncio.Task[Any], float]] = {}

    def get_executor(self, library_id: UUID) -> Executor:
        """The pool for calls that touch this library's disks only. Made on first use."""
        executor = self._executors.get(library_id)
        if executor is None:
            executor = self._executors[library_id] = DaemonExecutor(f"library-{library_id}", LIBRARY_THREADS)
        return executor

    @property
    def shared_executor(self) -> Executor:
        """The pool for calls that may touch any disk."""
        return self._shared_executor

    def remove(self, library_id: UUID) -> None:
        executor = self._executors.pop(library_id, None)
        if executor is not None:
            executor.shutdown(wait=False)

    def close(self) -> None:
        for task, _ in self._running_calls.values():
            task.cancel()
        for executor in (*self._executors.values(), self._shared_executor):
            executor.shutdown(wait=False, cancel_futures=True)

    async def run_single_flight(
        self, key: object, call: Callable[[], Coroutine[Any, Any, T]], timeout: float
    ) -> T | None:
        """The result of `call`, or None if it takes longer than `timeout` seconds. Raises what `call` raises.

        Callers with the same `key` share one call, so that a disk that hangs costs one thread. The time-out counts from the start of the
        shared call: once it has passed, callers get None at once until the call ends."""
        now = asyncio.get_running_loop().time()
        if key not in self._running_calls:
            task = asyncio.create_task(call())
            self._running_calls[key] = task, now + timeout
            task.add_done_callback(lambda task: self._remove_call(key, task))
        task, deadline = self._running_calls[key]
        done, _ = await asyncio.wait([task], timeout=max(0.0, deadline - now))
        return cast("T", task.result()) if done else None

    def _remove_call(self, key: object, task: asyncio.Task[Any]) -> None:
        del self._running_calls[key]
        if not task.cancelled():
            task.exception()  # marks it as retrieved; callers that still wait get it from `result()`
