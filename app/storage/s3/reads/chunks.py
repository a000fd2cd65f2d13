"""`ReadChunks`: the bytes of one read, over as many requests as it takes: connections break, and are given to others
(`ReadConnections`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import aiohttp

from app.storage.backend import CHUNK_BYTES, MAX_CHUNK_BYTES
from app.storage.errors import ObjectChanged, RangeNotSatisfiable, StorageUnavailable
from app.storage.ranges import ByteRange
from app.storage.s3.content_range import RangeContent
from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused
from app.storage.s3.protocol.responses import UNVERSIONED_ETAG
from app.storage.s3.reads.connections import ReadConnection

MAX_CONTINUATIONS = 3
FIRST_PAGE_BYTES = CHUNK_BYTES
"""What a read asks for at once after its slow client has cost it the connection: so little that it arrives whole, and the connection is
free while the client takes it. Each page is twice as long as the one before."""


class RangeReader(Protocol):
    """The part of `S3Reader` that a read needs."""

    deadline: float
    minimum_rate: int
    stall_seconds: float
    open_reads: set[ReadChunks]
    on_retry: Callable[[], None]

    @property
    def keeps_ranges(self) -> bool: ...

    async def send_get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> ReadResponse: ...


class BodyResponse(Protocol):
    """The part of a response that a read needs, see `HttpResponse`."""

    @property
    def is_connected(self) -> bool: ...

    def on_complete(self, callback: Callable[[], None]) -> None: ...

    async def read_chunk(self) -> bytes: ...

    def close(self) -> None: ...


class ReadResponse:
    """A successful response whose body has not been read yet."""

    __slots__ = ("connection", "content", "response")

    def __init__(self, content: RangeContent, response: BodyResponse, connection: ReadConnection) -> None:
        self.content = content
        self.response = response
        self.connection = connection


class ReadChunks:
    """The iterator over the bytes of one read, which takes further requests when connections break or are needed by others."""

    def __init__(self, reader: RangeReader, response: ReadResponse, served: ByteRange) -> None:
        self._reader = reader
        self._info = response.content.info
        self._skip = response.content.skip_bytes
        self._surplus = response.content.has_surplus
        self._position = served.first
        self._end = self._response_end = served.first + served.length
        self._response: BodyResponse | None = None
        self._page_bytes: int | None = None
        self._buffered = b""
        self._break_count = 0
        self._loop = asyncio.get_running_loop()
        self._waited = 0.0
        self._received = 0
        self._use(response)
        self._timer = self._loop.call_later(reader.stall_seconds, self._release_if_stalled)

    def _use(self, response: ReadResponse) -> None:
        self._response, self._connection = response.response, response.connection
        self._connection.idle_since = self._loop.time()
        if self._info.etag != UNVERSIONED_ETAG and self._reader.keeps_ranges:
            self._connection.on_revoked = self._on_revoked
        # What has arrived whole needs no connection any more, however slowly the client takes it.
        response.response.on_complete(self._connection.release)

    @property
    def is_connected(self) -> bool:
        return self._response is not None and self._response.is_connected

    def __enter__(self) -> Self:
        self._reader.open_reads.add(self)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._reader.open_reads.discard(self)
        self._timer.cancel()
        self._disconnect()
        self._end = self._position

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._position >= self._end:
            raise StopAsyncIteration
        self._connection.idle_since = None
        try:
            chunk = self._buffered or await self._receive()
            self._buffered = b""
            if len(chunk) > MAX_CHUNK_BYTES:
                chunk, self._buffered = chunk[:MAX_CHUNK_BYTES], chunk[MAX_CHUNK_BYTES:]
            self._position += len(chunk)
            return chunk
        finally:
            self._connection.idle_since = self._loop.time()

    async def _receive(self) -> bytes:
        if self._position >= self._response_end or (self.is_connected and self._connection.is_recalled):
            self._disconnect()
        while True:
            if self._response is None:
                await self._reconnect()
            started = self._loop.time()
            try:
                chunk = await self._response_bytes()
            except TimeoutError:
                raise StorageUnavailable(self._info.key, BACKEND, "the store stopped sending") from None
            except (aiohttp.ClientError, OSError) as error:
                self._note_break(error)
                continue
            self._waited += self._loop.time() - started
            self._received += len(chunk)
            if not chunk:
                self._note_break(EOFError("the body ended early"))
                continue
            if self._waited > self._reader.deadline + self._received / self._reader.minimum_rate:
                raise StorageUnavailable(self._info.key, BACKEND, "the store sends too slowly")
            if self._skip or len(chunk) > self._response_end - self._position:
                chunk = self._trim(chunk)
            if chunk:
                return chunk

    def _trim(self, chunk: bytes) -> bytes:
        """Cuts off the bytes before and after the requested range."""
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        chunk = chunk[skipped:]
        left = self._response_end - self._position
        if len(chunk) > left and not self._surplus:
            raise S3RequestRefused(self._info.key, BACKEND, "get: more bytes than announced")
        return chunk[:left]

    async def _response_bytes(self) -> bytes:
        response = self._response
        if response is None:
            raise ConnectionError("given back")
        return await response.read_chunk()

    async def _reconnect(self) -> None:
        """Send a GET for the bytes not yet yielded, of the same version of the object."""
        info = self._info
        if info.etag == UNVERSIONED_ETAG:
            raise StorageUnavailable(info.key, BACKEND, "cannot be continued: the store tells neither ETag nor date")
        end = self._end
        if self._page_bytes is not None:
            end = min(end, self._position + self._page_bytes)
            self._page_bytes *= 2
        try:
            reply = await self._reader.send_get(info.key, ByteRange(self._position, end - 1), info.etag)
        except RangeNotSatisfiable:
            raise ObjectChanged(info.key, BACKEND, "it is shorter now") from None
        self._use(reply)
        self._connection.idle_since = None
        self._response_end = end
        self._skip, self._surplus = reply.content.skip_bytes, reply.content.has_surplus
        if reply.content.info.size != info.size:
            raise ObjectChanged(info.key, BACKEND, f"{info.size} bytes before, {reply.content.info.size} now")
        self._timer.cancel()
        self._timer = self._loop.call_later(self._reader.stall_seconds, self._release_if_stalled)

    def _note_break(self, error: Exception) -> None:
        self._disconnect()
        self._break_count += 1
        if self._break_count > MAX_CONTINUATIONS:
            detail = f"the body broke {self._break_count} times: {type(error).__name__}"
            raise StorageUnavailable(self._info.key, BACKEND, detail) from error
        self._reader.on_retry()

    def _release_if_stalled(self) -> None:
        """Close the connection of a reader that has stalled, so that other reads can use it."""
        limit = self._reader.stall_seconds
        if not self.is_connected:
            return  # the whole body has arrived: only one buffer is held
        now = self._loop.time()
        idle_since = self._connection.idle_since
        idle = 0.0 if idle_since is None else now - idle_since
        if idle >= limit:
            self._disconnect()
            return
        self._timer = self._loop.call_later(limit - idle, self._release_if_stalled)

    def _on_revoked(self) -> None:
        """Others need the connection, and the client is slow: close it, and ask for pages from now on."""
        self._page_bytes = FIRST_PAGE_BYTES
        self._disconnect()

    def _disconnect(self) -> None:
        """Close the connection; one whose response has arrived whole stays open for other reads."""
        response, self._response = self._response, None
        if response is not None:
            response.close()
        self._connection.release()
