"""A TCP proxy that makes a distant store of a near one: latency before each request, and a rate that each connection has for itself."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self

_START_SECONDS = 10.0
_PIECE = 64 * 1024


class SlowLink:
    """`with SlowLink(port, latency=0.04, rate=20_000_000) as link:` forwards `link.endpoint` to that port of 127.0.0.1. It runs on a thread
    of its own."""

    def __init__(self, port: int, *, latency: float, rate: float) -> None:
        """`latency` in seconds; `rate` in bytes per second of each connection, towards the client."""
        self._upstream = port
        self.latency = latency
        self.rate = rate
        self.connections = self.most_connections = 0
        """Connections over which an answer comes now, and the most at any time."""
        self._port = 0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._ended is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(_START_SECONDS)

    async def _run(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            try:
                async with asyncio.TaskGroup() as group:
                    answers = group.create_task(self._pass_answers(upstream_reader, writer))
                    await self._pass_requests(reader, upstream_writer)
                    answers.cancel()
            finally:
                for end in (writer, upstream_writer):
                    end.transport.abort()

    async def _pass_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            await asyncio.sleep(self.latency)
            writer.write(piece)
            await writer.drain()

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while piece := await reader.read(_PIECE):
            self.connections += 1
            self.most_connections = max(self.most_connections, self.connections)
            try:
                due = max(due, loop.time()) + len(piece) / self.rate
                await asyncio.sleep(due - loop.time())
                writer.write(piece)
                await writer.drain()
            finally:
                self.connections -= 1
        writer.transport.abort()
