"""Open reads and writes of a measured backend. Only the time inside the backend counts, not that in which the caller does something else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType
from typing import Generic, Self, TypeVar

from app.storage.backend import ObjectStream, ObjectWriter
from app.storage.digests import UpdateDigest
from app.storage.metered.calls import CallObserver, Stopwatch
from app.storage.ranges import FileWindow
from app.storage.resumable import ResumableAppender

T = TypeVar("T")
PieceT = TypeVar("PieceT", bytes, bytes | FileWindow)


class MeteredContext(Generic[T]):
    """Records one operation from its entry to its end."""

    def __init__(
        self, calls: CallObserver, operation: str, direction: str, opened: AbstractAsyncContextManager[T]
    ) -> None:
        self.calls = calls
        self.watch = Stopwatch()
        self._operation = operation
        self._direction = direction
        self._opened = opened

    async def __aenter__(self) -> T:
        try:
            value = await self.watch.run(self._opened.__aenter__())
        except BaseException as error:
            self.calls.record(self._operation, error, self.watch)
            raise
        self.calls.count_stream(self._direction, 1)
        return self.wrap(value)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self.calls.count_stream(self._direction, -1)
        failure = exc
        try:
            return await self.watch.run(self._opened.__aexit__(exc_type, exc, traceback))
        except BaseException as error:
            failure = error
            raise
        finally:
            self.calls.record(self._operation, failure, self.watch)
            failure = None

    def wrap(self, value: T) -> T:
        """What the caller gets in place of `value`."""
        return value


class MeteredRead(MeteredContext[ObjectStream]):
    def wrap(self, value: ObjectStream) -> ObjectStream:
        windows = None if value.windows is None else _MeteredChunks(self.calls, self.watch, value.windows)
        return replace(value, chunks=_MeteredChunks(self.calls, self.watch, value.chunks), windows=windows)


class MeteredWrite(MeteredContext[ObjectWriter]):
    def wrap(self, value: ObjectWriter) -> ObjectWriter:
        return _MeteredWriter(self.calls, self.watch, value)


class MeteredAppend(MeteredContext[ResumableAppender]):
    def wrap(self, value: ResumableAppender) -> ResumableAppender:
        return _MeteredAppender(self.calls, self.watch, value)


class _MeteredChunks(Generic[PieceT]):
    def __init__(self, calls: CallObserver, watch: Stopwatch, chunks: AsyncIterator[PieceT]) -> None:
        self._calls = calls
        self._watch = watch
        self._chunks = chunks

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PieceT:
        chunk = await self._watch.run(self._chunks.__anext__())
        self._calls.count_bytes("read", len(chunk))
        return chunk


class _MeteredWriter:
    def __init__(self, calls: CallObserver, watch: Stopwatch, writer: ObjectWriter) -> None:
        self._calls = calls
        self._watch = watch
        self._writer = writer

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        await self._watch.run(self._writer.write(data, update_digest))
        self._calls.count_bytes("write", len(data))

    @property
    def size(self) -> int:
        return self._writer.size


class _MeteredAppender:
    def __init__(self, calls: CallObserver, watch: Stopwatch, appender: ResumableAppender) -> None:
        self._calls = calls
        self._watch = watch
        self._appender = appender

    @property
    def offset(self) -> int:
        return self._appender.offset

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        await self._watch.run(self._appender.write(data, update_digest))
        self._calls.count_bytes("write", len(data))

    async def checkpoint(self) -> None:
        await self._watch.run(self._appender.checkpoint())

    async def discard(self) -> None:
        await self._watch.run(self._appender.discard())
