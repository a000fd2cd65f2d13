"""Work done outside of this process: handed to the fork server, bounded, and ended with all that it started.

What comes back is text from a process that a hostile file may have taken over: bounded, never a pickle, checked by whoever asked.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Self

import structlog

from app.media.errors import WorkerCrashed
from app.media.sandbox.messages import SandboxRequest, SandboxResult

MAX_RESULT_BYTES = 8 * 1024 * 1024
"""Bytes that a warden may say at all: more than any output limit, also when every character is escaped."""

_GRACE_SECONDS = 15.0
"""What a warden has beyond the work's own time, before it is taken for stuck."""

_SEND_SECONDS = 10.0
_STOP_SECONDS = 5.0
_ATTEMPTS = 3
"""To start work at all; work that has begun is never begun again."""

_END_SECONDS = 12.0
_CHUNK = 64 * 1024
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # Large pages: a worker is young, and touching new memory is a third of what small ones cost it.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}

_log = structlog.get_logger(__name__)


class Sandbox:
    """Starts its fork server when there is work for the first time, and another one when that has died."""

    def __init__(self) -> None:
        self._server: _ForkServer | None = None
        self._starting = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Ready for work. Whoever has asked for work cancels it or waits for it before the end."""
        try:
            yield self
        finally:
            server, self._server = self._server, None
            if server is not None:
                await server.stop()

    async def run(self, request: SandboxRequest) -> SandboxResult:
        """How the work ended. Cancelled, it returns when the work and all that it started are gone. Raises `WorkerCrashed` where nobody
        can tell how it ended."""
        for _ in range(_ATTEMPTS):
            server = await self._running_server()
            try:
                warden = await self._hand_over(server, request)
                try:
                    await warden.wait(request.limits.seconds + _GRACE_SECONDS)
                finally:
                    await warden.terminate()
            except OSError as error:
                _log.warning("the fork server is gone", error=str(error))
            else:
                if warden.pid is not None:
                    return _parse_result(warden)
                _log.warning("the fork server has not taken its work")
            await self._discard_server(server)
        raise WorkerCrashed("no process could be started for it")

    async def _hand_over(self, server: _ForkServer, work: SandboxRequest) -> _SupervisorConnection:
        """Raises `OSError` when the server is not there any more, or takes nothing."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with closing(theirs):
            try:
                await server.hand_over(work, theirs)
            except BaseException:
                ours.close()
                raise
        return _SupervisorConnection(*await asyncio.open_unix_connection(sock=ours))

    async def _running_server(self) -> _ForkServer:
        async with self._starting:
            if self._server is None:
                self._server = await _ForkServer.start()
            return self._server

    async def _discard_server(self, server: _ForkServer) -> None:
        async with self._starting:
            if self._server is server:
                self._server = None
        await server.stop()


def _parse_result(warden: _SupervisorConnection) -> SandboxResult:
    try:
        return SandboxResult.from_bytes(bytes(warden.message))
    except ValueError:
        _log.warning("a media process was lost", warden=warden.pid)
        raise WorkerCrashed("the process that worked on it was lost") from None


class _ForkServer:
    def __init__(self, process: Process, inbox: socket.socket) -> None:
        self._process = process
        self._inbox = inbox

    @classmethod
    async def start(cls) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with closing(theirs):
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-m", "app.media.sandbox.fork_server", str(theirs.fileno()),
                    stdin=DEVNULL, stdout=DEVNULL, cwd="/", env=_ENVIRONMENT, pass_fds=[theirs.fileno()], start_new_session=True,
                )  # fmt: skip
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    async def hand_over(self, request: SandboxRequest, control: socket.socket) -> None:
        """Raises `OSError` when the server is not there any more, or takes nothing."""
        packed = request.to_bytes()
        descriptors = [
            control.fileno(),
            *([] if request.inherited_descriptor is None else [request.inherited_descriptor]),
        ]
        async with asyncio.timeout(_SEND_SECONDS):
            while True:
                try:
                    socket.send_fds(self._inbox, [packed], descriptors)
                except BlockingIOError:
                    await asyncio.sleep(0.005)  # its queue is full; it forks some hundred times a second
                else:
                    return

    async def stop(self) -> None:
        """Ends it; its wardens end by themselves, when the work that they keep does."""
        self._inbox.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class _SupervisorConnection:
    """The other end of one warden's socket. It first says its process id, at the end its message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid: int | None = None
        self.message = bytearray()
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, ValueError):
            self.pid = int(await reader.readline())
            while len(self.message) <= MAX_RESULT_BYTES and (data := await reader.read(_CHUNK)):
                self.message += data

    async def wait(self, seconds: float) -> None:
        """Until it has said its message and is gone, or the time is over."""
        await asyncio.wait([self._reading], timeout=seconds)

    async def terminate(self) -> None:
        """Have it end the work, and wait until it has, also when cancelled meanwhile: the socket closes with its last word. One
        that does not answer is killed; what it kept then falls to the fork server."""
        cancelled = False
        if not self._reading.done():
            self._writer.write_eof()
            cancelled = await _wait_uncancelled(self._reading, _END_SECONDS)
        if not self._reading.done() and self.pid is not None:
            _log.error("a warden does not answer", warden=self.pid)
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            cancelled |= await _wait_uncancelled(self._reading, _END_SECONDS)
        self._reading.cancel()
        self._writer.close()
        if cancelled:
            raise asyncio.CancelledError


async def _wait_uncancelled(task: asyncio.Task[None], seconds: float) -> bool:
    """Wait for the task, at most so long, and do not stop when cancelled; whether that happened."""
    cancelled = False
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not task.done() and loop.time() < deadline:
        try:
            await asyncio.wait([task], timeout=deadline - loop.time())
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
