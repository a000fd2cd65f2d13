"""Threads for each library by itself: the disk of one may hang, and a call to it then never returns."""

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
    """Nobody waits for the end of a thread, least of all the end of the process."""

    def __init__(self) -> None:
        self._executors: dict[UUID, DaemonExecutor] = {}
        self._shared_executor = DaemonExecutor("library-check", CHECK_THREADS)
        self._running_calls: dict[object, tuple[asyncio.Task[Any], float]] = {}

    def get_executor(self, library_id: UUID) -> Executor:
        """For what concerns this library only."""
        lane = self._executors.get(library_id)
        if lane is None:
            lane = self._executors[library_id] = DaemonExecutor(f"library-{library_id}", LIBRARY_THREADS)
        return lane

    @property
    def shared_executor(self) -> Executor:
        """For what may ask any disk."""
        return self._shared_executor

    def remove(self, library_id: UUID) -> None:
        lane = self._executors.pop(library_id, None)
        if lane is not None:
            lane.shutdown(wait=False)

    def close(self) -> None:
        for asking, _ in self._running_calls.values():
            asking.cancel()
        for lane in (*self._executors.values(), self._shared_executor):
            lane.shutdown(wait=False, cancel_futures=True)

    async def run_single_flight(
        self, key: object, call: Callable[[], Coroutine[Any, Any, T]], timeout: float
    ) -> T | None:
        """What `call` tells, None where it takes longer than `timeout` seconds. It is asked once at a time, whoever asks, so that a disk that
        hangs costs one thread; when it has not answered for so long already nobody waits any more."""
        now = asyncio.get_running_loop().time()
        if key not in self._running_calls:
            asking = asyncio.create_task(call())
            self._running_calls[key] = asking, now + timeout
            asking.add_done_callback(lambda asking: self._remove_call(key, asking))
        asking, until = self._running_calls[key]
        done, _ = await asyncio.wait([asking], timeout=max(0.0, until - now))
        return cast("T", asking.result()) if done else None

    def _remove_call(self, question: object, asking: asyncio.Task[Any]) -> None:
        del self._running_calls[question]
        if not asking.cancelled():
            asking.exception()  # whoever still waits is told
