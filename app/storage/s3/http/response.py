"""`HttpResponse`: a response whose body arrives on a connection, and waits here for its reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from app.storage.backend import CHUNK_BYTES


class HttpError(OSError):
    """The connection failed, or what arrives is no valid response. Subclasses are named as the hints in `error_hints` expect."""


class ConnectionEnded(HttpError):
    """The connection ended before the response did."""


class ResponseParserError(HttpError):
    """What arrives is no HTTP response."""


class BodySource(Protocol):
    """The part of `HttpConnection` that a response needs."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...


class HttpResponse:
    """Status, those header fields that are needed, and body. At most `CHUNK_BYTES`, and what arrives in one call, wait for the reader; then the connection is
    not read any further."""

    __slots__ = (
        "_buffered_bytes", "_connection", "_failure", "_is_paused", "_loop", "_on_complete", "_pieces", "_read_seconds", "_timer",
        "_waiter", "_waits_for_all", "content_length", "headers", "is_complete", "status",
    )  # fmt: skip

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        content_length: int | None,
        connection: BodySource,
        read_seconds: float,
    ) -> None:
        """`read_seconds`: how long a read waits while nothing arrives."""
        self.status = status
        self.headers = headers
        self.content_length = content_length
        self.is_complete = False
        self._connection: BodySource | None = connection
        self._read_seconds = read_seconds
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._is_paused = False
        # A short body is taken at once: to pass on each piece as it arrives would cost more than all else.
        self._waits_for_all = content_length is not None and content_length <= CHUNK_BYTES
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._on_complete: Callable[[], None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the body still arrives on a connection."""
        return self._connection is not None

    def on_complete(self, callback: Callable[[], None]) -> None:
        """Call it as soon as the body has arrived whole."""
        if self.is_complete:
            callback()
        else:
            self._on_complete = callback

    async def read_chunk(self) -> bytes:
        """The bytes that have arrived; b"" at the end. Raises `HttpError`, and `TimeoutError` where nothing arrives in time."""
        while not self._pieces or (self._waits_for_all and self._connection is not None):
            if self._failure is not None and not self._pieces:
                raise self._failure
            if self._connection is None:
                return b""
            await self._wait()
        chunk = self._pieces.popleft()
        if self._waits_for_all and self._pieces:
            chunk = b"".join((chunk, *self._pieces))
            self._pieces.clear()
        self._buffered_bytes -= len(chunk)
        if self._is_paused and not self._pieces and self._connection is not None:
            self._is_paused = False
            self._connection.resume()
        return chunk

    async def read_all(self, limit: int) -> bytes:
        """The body, or its first bytes where it is longer than `limit`; then the connection is closed."""
        body = b""
        while chunk := await self.read_chunk():
            body += chunk
            if len(body) > limit:
                self.close()
                return body[:limit]
        return body

    def close(self) -> None:
        """Idempotent. Closes the connection, unless the body has arrived whole."""
        self._pieces.clear()
        self._buffered_bytes = 0
        self._on_complete = None
        connection, self._connection = self._connection, None
        if connection is not None:
            self._failure = ConnectionEnded("closed")
            connection.close()
        self._wake()

    def feed(self, data: bytes) -> None:
        """Called by the connection with a piece of the body."""
        self._pieces.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes >= CHUNK_BYTES and not self._waits_for_all and not self._is_paused:
            self._is_paused = True
            if self._connection is not None:
                self._connection.pause()
        if not self._waits_for_all:
            self._wake()

    def end(self, failure: Exception | None = None) -> None:
        """Called by the connection when the body has arrived whole, or cannot."""
        self._connection = None
        self._failure = failure
        self.is_complete = failure is None
        callback, self._on_complete = self._on_complete, None
        if callback is not None and failure is None:
            callback()
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        self._timer = self._loop.call_later(self._read_seconds, self._on_timeout)
        try:
            await self._waiter
        finally:
            self._timer.cancel()
            self._waiter = self._timer = None

    def _on_timeout(self) -> None:
        if self._pieces:
            self._waits_for_all = False  # the caller judges the rate of what has arrived
            self._wake()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError("nothing arrives"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
