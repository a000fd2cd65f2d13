"""`StorageCalls`: records the calls of one backend."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Counts
from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeVar

from app.metrics.families import OPEN_STREAMS, STORAGE_BYTES, STORAGE_DURATION
from app.metrics.instruments import ProcessMetrics
from app.storage.errors import (
    ListingIncomplete,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StagingFull,
    StorageError,
    StorageFull,
    StoragePermission,
    StorageUnavailable,
)

T = TypeVar("T")

_OUTCOMES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (ObjectNotFound, "not_found"),
    (ObjectExists, "exists"),
    (ObjectChanged, "changed"),
    ((StorageFull, StagingFull), "full"),
    (StoragePermission, "permission"),
    ((StorageUnavailable, ListingIncomplete), "unavailable"),
    (StorageError, "refused"),
    ((asyncio.CancelledError, GeneratorExit), "cancelled"),
)


def describe_outcome(error: BaseException | None) -> str:
    """`ok`, or the kind of the error. `abandoned`: the caller failed, and so ended a read or a write."""
    if error is None:
        return "ok"
    return next((outcome for kinds, outcome in _OUTCOMES if isinstance(error, kinds)), "abandoned")


class CallObserver(Protocol):
    """What is told of each call of a backend."""

    async def measure(self, operation: str, call: Awaitable[T]) -> T:
        """Await the call, and record it."""
        ...

    def record(self, operation: str, error: BaseException | None, watch: Stopwatch) -> None: ...

    def count_bytes(self, direction: str, size: int) -> None: ...

    def count_stream(self, direction: str, change: int) -> None:
        """`change`: 1 where a stream opens, -1 where it closes."""
        ...


class StorageCalls:
    """Records the calls of the backend `name` in metrics."""

    def __init__(self, metrics: ProcessMetrics, name: str) -> None:
        self.name = name
        self._durations = metrics.histogram(STORAGE_DURATION)
        self._bytes = metrics.counter(STORAGE_BYTES)
        self._open: Counts[str] = Counts()
        metrics.add_gauge(OPEN_STREAMS, self._count_open)

    async def measure(self, operation: str, call: Awaitable[T]) -> T:
        watch = Stopwatch()
        try:
            result = await watch.run(call)
        except BaseException as error:
            self.record(operation, error, watch)
            raise
        self.record(operation, None, watch)
        return result

    def record(self, operation: str, error: BaseException | None, watch: Stopwatch) -> None:
        self._durations.observe(watch.seconds, self.name, operation, describe_outcome(error))

    def count_bytes(self, direction: str, size: int) -> None:
        self._bytes.add(size, self.name, direction)

    def count_stream(self, direction: str, change: int) -> None:
        """`change`: 1 where a stream opens, -1 where it closes."""
        self._open[direction] += change

    def _count_open(self) -> Mapping[tuple[str, ...], float]:
        return {(self.name, direction): float(count) for direction, count in self._open.items()}


class Stopwatch:
    """Adds up the time spent in the calls that it runs."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self, call: Awaitable[T]) -> T:
        began = time.perf_counter()
        try:
            return await call
        finally:
            self.seconds += time.perf_counter() - began
