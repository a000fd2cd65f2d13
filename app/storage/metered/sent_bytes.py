"""`SentBytes`: counts the bytes of files that are read for clients, by where they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from app.metrics.families import CACHE, DISK, S3, SENT_BYTES
from app.metrics.instruments import ProcessMetrics
from app.storage.backend import ObjectStream, ReadOrigin
from app.storage.ranges import FileWindow

PieceT = TypeVar("PieceT", bytes, bytes | FileWindow)


class SentBytes:
    def __init__(self, metrics: ProcessMetrics) -> None:
        series = metrics.counter(SENT_BYTES).series
        self._disk, self._s3, self._cache = (series.find((source,)) for source in (DISK, S3, CACHE))
        self._disk_memory = self._cache_memory = 0
        metrics.add_flush(self._flush)

    def count(
        self, opened: AbstractAsyncContextManager[ObjectStream], *, is_s3: bool
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """The same read, whose bytes are counted as they are taken."""
        return _CountedRead(opened, self._s3 if is_s3 else self._disk, self._cache)

    def count_from_memory(self, size: int, *, is_s3: bool) -> None:
        """Such a read takes less time than a dozen writes to shared memory, so it is only added up here."""
        if is_s3:
            self._cache_memory += size
        else:
            self._disk_memory += size

    def _flush(self) -> None:
        self._disk[0] += self._disk_memory
        self._cache[0] += self._cache_memory
        self._disk_memory = self._cache_memory = 0


class _CountedRead:
    """A class, because a generator would cost each request more time."""

    __slots__ = ("_cached", "_opened", "_total")

    def __init__(
        self, opened: AbstractAsyncContextManager[ObjectStream], total: memoryview[float], cached: memoryview[float]
    ) -> None:
        self._opened = opened
        self._total = total
        self._cached = cached

    async def __aenter__(self) -> ObjectStream:
        stream = await self._opened.__aenter__()
        windows = None if stream.windows is None else self._count(stream.windows, stream.origin)
        chunks = self._count(stream.chunks, stream.origin)
        return replace(stream, chunks=chunks, windows=windows)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._opened.__aexit__(exc_type, exc, traceback)

    def _count(self, pieces: AsyncIterator[PieceT], origin: ReadOrigin | None) -> AsyncIterator[PieceT]:
        if origin is None:
            return _count_chunks(pieces, self._total)
        return _count_by_origin(pieces, origin, self._total, self._cached)


async def _count_chunks(chunks: AsyncIterator[PieceT], total: memoryview[float]) -> AsyncIterator[PieceT]:
    async for chunk in chunks:
        total[0] += len(chunk)
        yield chunk


async def _count_by_origin(
    chunks: AsyncIterator[PieceT], origin: ReadOrigin, total: memoryview[float], cached: memoryview[float]
) -> AsyncIterator[PieceT]:
    async for chunk in chunks:
        (cached if origin.is_cached else total)[0] += len(chunk)
        yield chunk
