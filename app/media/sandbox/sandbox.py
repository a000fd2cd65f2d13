"""`Sandbox`: runs requests in sandboxed child processes, within limits, and ends every process of a request.

The service sends a request to the fork server, which forks a supervisor; the supervisor forks the worker. A hostile file may have taken over the
worker, so the answer is bounded JSON, never a pickle, and the caller validates it.
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
"""Limit on the bytes of a supervisor's message: more than any output limit, even if every character is escaped."""

_GRACE_SECONDS = 15.0
"""Seconds beyond the request's own limit after which a supervisor counts as stuck."""

_SEND_SECONDS = 10.0
_STOP_SECONDS = 5.0
_ATTEMPTS = 3
"""Attempts to start a request. A request whose supervisor has started is never repeated."""

_END_SECONDS = 12.0
_CHUNK = 64 * 1024
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # Large pages: first touches of new memory cost a short-lived worker a third of what they cost with small pages.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}

_log = structlog.get_logger(__name__)


class Sandbox:
    """Starts its fork server at the first request, and a new one when that has died."""

    def __init__(self) -> None:
        self._server: _ForkServer | None = None
        self._starting = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Stops the fork server at the end. Callers of `run` must have returned or been cancelled before."""
        try:
            yield self
        finally:
            server, self._server = self._server, None
            if server is not None:
                await server.stop()

    async def run(self, request: SandboxRequest) -> SandboxResult:
        """Run a request and return how its worker ended. After cancellation, the worker and its descendants have ended before it returns.
        Raises `WorkerCrashed` if the outcome is unknown."""
        for _ in range(_ATTEMPTS):
            server = await self._running_server()
            try:
                supervisor = await self._hand_over(server, request)
                try:
                    await supervisor.wait(request.limits.seconds + _GRACE_SECONDS)
                finally:
                    await supervisor.terminate()
            except OSError as error:
                _log.warning("the fork server is gone", error=str(error))
            else:
                if supervisor.pid is not None:
                    return _parse_result(supervisor)
                _log.warning("the fork server did not start a supervisor for a request")
            await self._discard_server(server)
        raise WorkerCrashed("no process could be started for it")

    async def _hand_over(self, server: _ForkServer, request: SandboxRequest) -> _SupervisorConnection:
        """Raises `OSError` if the server has ended, or accepts no request within a time limit."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with closing(theirs):
            try:
                await server.hand_over(request, theirs)
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


def _parse_result(supervisor: _SupervisorConnection) -> SandboxResult:
    try:
        return SandboxResult.from_bytes(bytes(supervisor.message))
    except ValueError:
        _log.warning("a media supervisor ended without a result", pid=supervisor.pid)
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
                    sys.executable, "-I", "-m", "app.media.sandbox.network_isolation", str(theirs.fileno()),
                    stdin=DEVNULL, stdout=DEVNULL, cwd="/", env=_ENVIRONMENT, pass_fds=[theirs.fileno()], start_new_session=True,
                )  # fmt: skip
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    async def hand_over(self, request: SandboxRequest, control: socket.socket) -> None:
        """Raises `OSError` if the server has ended, or accepts no request within a time limit."""
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
                    await asyncio.sleep(
                        0.005
                    )  # the socket's queue is full; the server forks some hundred times a second
                else:
                    return

    async def stop(self) -> None:
        """End the fork server. Supervisors end by themselves, with their workers."""
        self._inbox.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class _SupervisorConnection:
    """The service's end of one supervisor's control socket. The supervisor first sends its process id, at the end its `SandboxResult`."""

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
        """Wait until the supervisor has sent its message and ended, at most `seconds`."""
        await asyncio.wait([self._reading], timeout=seconds)

    async def terminate(self) -> None:
        """Have the supervisor end its worker, and wait until the socket closes, even if cancelled meanwhile. A supervisor that does not
        answer is killed; the fork server then kills its descendants."""
        cancelled = False
        if not self._reading.done():
            self._writer.write_eof()
            cancelled = await _wait_uncancelled(self._reading, _END_SECONDS)
        if not self._reading.done() and self.pid is not None:
            _log.error("a media supervisor does not answer and is killed", pid=self.pid)
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            cancelled |= await _wait_uncancelled(self._reading, _END_SECONDS)
        self._reading.cancel()
        self._writer.close()
        if cancelled:
            raise asyncio.CancelledError


async def _wait_uncancelled(task: asyncio.Task[None], seconds: float) -> bool:
    """Wait for the task, at most `seconds`, also through cancellations. Returns whether one happened."""
    cancelled = False
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not task.done() and loop.time() < deadline:
        try:
            await asyncio.wait([task], timeout=deadline - loop.time())
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
