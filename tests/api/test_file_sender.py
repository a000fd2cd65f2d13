"""`FileSender` over real connections, on both event loops: order behind what the transport still holds, bytes that leave the page cache while
the client is slow, and connections that end meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
import uvloop
from uvicorn.protocols.http.flow_control import FlowControl

from app.api.http.responses.file_sender import FileSender, create_file_sender
from app.api.http.responses.socket_poller import SocketPoller
from app.storage.errors import ObjectChanged

PATIENCE = 20.0
SIZE = 6 * 1024 * 1024
"""More than the kernel buffers for a client that does not read."""
SMALL_BUFFER = 16 * 1024

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    return uvloop.run if request.param == "uvloop" else asyncio.run


class RecordedFile:
    """A file whose bytes are said to be in the page cache unless `is_cold`, until they are loaded."""

    key, backend = "film.mp4", "local"

    def __init__(self, opened: BinaryIO) -> None:
        self._opened = opened
        self.is_cold = False
        self.loaded: list[tuple[int, int]] = []

    def fileno(self) -> int:
        return self._opened.fileno()

    def is_cached(self, offset: int, count: int) -> bool:
        assert count > 0
        return not self.is_cold

    async def load(self, offset: int, count: int) -> None:
        self.loaded.append((offset, count))
        self.is_cold = False


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Iterator[RecordedFile]:
    (tmp_path / "film").write_bytes(content)
    with (tmp_path / "film").open("rb") as opened:
        yield RecordedFile(opened)


class ServerSide(asyncio.Protocol):
    """As the server's protocol, as far as the sender needs it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's have no common base
        self.lost = asyncio.Event()
        self.flow = FlowControl(self.transport)
        self.poller = SocketPoller()
        sender = create_file_sender(self.transport, self.flow, self.poller)
        assert sender is not None
        self.sender: FileSender = sender

    def connection_lost(self, exc: Exception | None) -> None:
        self.flow.resume_writing()
        self.sender.on_connection_lost()
        self.lost.set()

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[ServerSide, asyncio.StreamReader, asyncio.StreamWriter]]:
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[ServerSide] = loop.create_future()

    class Accepting(ServerSide):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.set_result(self)

    async with asyncio.timeout(PATIENCE):
        server = await loop.create_server(Accepting, "127.0.0.1", 0)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        reader, writer = await asyncio.open_connection(sock=client, limit=SMALL_BUFFER)
        try:
            yield await accepted, reader, writer
        finally:
            writer.close()
            accepted.result().transport.abort()
            await accepted.result().lost.wait()
            accepted.result().poller.close()
            server.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


def test_the_file_follows_what_the_transport_holds(run: Run, file: RecordedFile, content: bytes) -> None:
    before = os.urandom(SIZE)

    async def check() -> None:
        async with connected() as (server, reader, _):
            server.transport.write(before)
            sending = asyncio.create_task(server.sender.send(file, 7, SIZE - 7))
            async with asyncio.timeout(PATIENCE):
                assert await reader.readexactly(2 * SIZE - 7) == before + content[7:]
                await sending
            server.transport.write(b"next")
            assert await reader.readexactly(4) == b"next"

    run(check())


def test_bytes_that_leave_the_page_cache_are_loaded_before_they_are_sent(
    run: Run, file: RecordedFile, content: bytes
) -> None:
    async def check() -> None:
        async with connected() as (server, reader, _):
            sending = asyncio.create_task(server.sender.send(file, 0, SIZE))
            await until(lambda: server.sender.waiting_bytes > 0)
            left = server.sender.waiting_bytes
            file.is_cold = True
            async with asyncio.timeout(PATIENCE):
                assert await reader.readexactly(SIZE) == content
                await sending
            assert file.loaded == [(SIZE - left, left)]
            assert server.sender.waiting_bytes == 0

    run(check())


@pytest.mark.parametrize("end", ["abort", "reset", "cancel"])
def test_a_connection_that_ends_ends_the_wait(run: Run, file: RecordedFile, end: str) -> None:
    async def check() -> None:
        async with connected() as (server, _, writer):
            descriptors = count_descriptors()
            sending = asyncio.create_task(server.sender.send(file, 0, SIZE))
            await until(lambda: server.sender.waiting_bytes > 0)
            match end:
                case "abort":
                    server.transport.abort()
                case "reset":
                    writer.transport.abort()
                case _:
                    sending.cancel()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(sending, return_exceptions=True)
            assert sending.cancelled() == (end == "cancel")
            assert server.sender.waiting_bytes == 0
            server.poller.close()
            assert count_descriptors() <= descriptors

    run(check())


def test_a_file_that_ends_early_is_an_error(run: Run, file: RecordedFile, content: bytes) -> None:
    async def check() -> None:
        async with connected() as (server, reader, _):
            sending = asyncio.create_task(server.sender.send(file, 0, SIZE + 1))
            async with asyncio.timeout(PATIENCE):
                assert await reader.readexactly(SIZE) == content
                with pytest.raises(ObjectChanged, match=f"ends at {SIZE} bytes"):
                    await sending

    run(check())


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
