"""Threads for each library by itself: the disk of one may hang, and a call to it then never returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, cast
from uuid import UUID

from app.storage.local.daemons import DaemonExecutor

T = TypeVar("T")

LIBRARY_THREADS = 6
CHECK_THREADS = 4


class Lanes:
    """Nobody waits for the end of a thread, least of all the end of the process."""

    def __init__(self) -> None:
        self._lanes: dict[UUID, DaemonExecutor] = {}
        self._checks = DaemonExecutor("library-check", CHECK_THREADS)
        self._asked: dict[object, tuple[asyncio.Task[Any], float]] = {}

    def of(self, library_id: UUID) -> Executor:
        """For what concerns this library only."""
        lane = self._lanes.get(library_id)
        if lane is None:
            lane = self._lanes[library_id] = DaemonExecutor(f"library-{library_id}", LIBRARY_THREADS)
        return lane

    @property
    def checks(self) -> Executor:
        """For what may ask any disk."""
        return self._checks

    def forget(self, library_id: UUID) -> None:
        lane = self._lanes.pop(library_id, None)
        if lane is not None:
            lane.shutdown(wait=False)

    def close(self) -> None:
        for asking, _ in self._asked.values():
            asking.cancel()
        for lane in (*self._lanes.values(), self._checks):
            lane.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: object, ask: Callable[[], Coroutine[Any, Any, T]], patience: float) -> T | None:
        """What `ask` tells, None where it takes longer than `patience` seconds. It is asked once at a time, whoever asks, so that a disk that
        hangs costs one thread; when it has not answered for so long already nobody waits any more."""
        now = asyncio.get_running_loop().time()
        if question not in self._asked:
            asking = asyncio.create_task(ask())
            self._asked[question] = asking, now + patience
            asking.add_done_callback(lambda asking: self._answered(question, asking))
        asking, until = self._asked[question]
        done, _ = await asyncio.wait([asking], timeout=max(0.0, until - now))
        return cast("T", asking.result()) if done else None

    def _answered(self, question: object, asking: asyncio.Task[Any]) -> None:
        del self._asked[question]
        if not asking.cancelled():
            asking.exception()  # whoever still waits is told
