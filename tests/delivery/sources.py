"""A `ByteSource` in memory that records how it is read, and a real uvicorn server that delivers such sources."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from app.delivery.errors import DeliveryError, PreconditionFailed
from app.delivery.response import NO_CACHE, deliver_source
from app.storage.backend import CHUNK_BYTES
from app.storage.errors import StorageError
from app.storage.ranges import ByteRange, FileWindow
from tests.real.http_raw import PATIENCE


@dataclass
class RecordedSource:
    """Yields `content` in chunks of `chunk_bytes`. `before_chunk` is called before each chunk with the number of bytes yielded so far; it
    may raise or wait. `given`: bytes that readers have taken; `opened`, `closed`: number of reads that began and ended."""

    content: bytes
    content_type: str = "image/jpeg"
    filename: str = "photo.jpg"
    etag: str = '"0123"'
    last_modified: datetime = datetime(2024, 2, 29, 12, 30, 15, 999999, tzinfo=UTC)
    accepts_ranges: bool = True
    chunk_bytes: int = CHUNK_BYTES
    announced: int | None = None
    before_chunk: Callable[[int], object] | None = None
    block_at: int | None = None
    open_error: StorageError | None = None
    given: int = 0
    opened: int = 0
    closed: int = 0
    wanted: list[ByteRange | None] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content) if self.announced is None else self.announced

    @asynccontextmanager
    async def read(self, byte_range: ByteRange | None) -> AsyncIterator[AsyncIterator[bytes]]:
        if self.open_error is not None:
            raise self.open_error
        self.opened += 1
        self.wanted.append(byte_range)
        chunks = self._chunks(byte_range)
        try:
            yield chunks
        finally:
            await chunks.aclose()
            self.closed += 1

    def read_windows(
        self, byte_range: ByteRange | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes | FileWindow]]:
        return self.read(byte_range)

    async def _chunks(self, byte_range: ByteRange | None) -> AsyncGenerator[bytes, None]:
        part = self.content
        if byte_range is not None:
            part = part[byte_range.first : byte_range.first + byte_range.length]
        for start in range(0, len(part), self.chunk_bytes):
            if self.before_chunk is not None:
                self.before_chunk(start)
            if self.block_at is not None and start >= self.block_at:
                await asyncio.Event().wait()
            chunk = part[start : start + self.chunk_bytes]
            self.given += len(chunk)
            yield chunk
        if self.before_chunk is not None:
            self.before_chunk(len(part))


class SourceApp:
    """An ASGI application that delivers `sources` by path, with `?download` as an attachment. Keeps its exceptions in `raised`."""

    def __init__(self) -> None:
        self.sources: dict[str, RecordedSource] = {}
        self.raised: list[Exception] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        source = self.sources[scope["path"]]
        try:
            await deliver_source(
                source,
                scope,
                receive,
                send,
                attachment=scope["query_string"] == b"download",
                cache_control=NO_CACHE,
                extra_headers=((b"x-correlation-id", b"abc"),),
            )
        except DeliveryError as refusal:
            status = 412 if isinstance(refusal, PreconditionFailed) else 416
            await self._refuse(scope, send, status, refusal.headers)
        except StorageError as error:
            self.raised.append(error)
            await self._refuse(scope, send, 404, ())
        except Exception as error:
            self.raised.append(error)
            raise

    @staticmethod
    async def _refuse(scope: Scope, send: Send, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        body = b"{}"
        fields = ((b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body)), *headers)
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@contextmanager
def run_server(app: SourceApp, *, send_buffer: int | None = None) -> Iterator[int]:
    """Serve `app` with uvicorn, httptools and uvloop, as in production; yields the port. `send_buffer`: bytes that the kernel buffers for a
    client that does not read."""
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", access_log=False, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: uvloop.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(PATIENCE)
        listener.close()
        assert not thread.is_alive()
