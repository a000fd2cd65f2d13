"""The server of one process: a uvicorn server that drains before it stops.

SIGTERM: `/readyz` answers 503, and everything is still served for `drain_delay` seconds. Then the process closes its listeners and idle
connections. Running requests have `drain_seconds` to end; then they are cut. SIGINT (Ctrl-C) skips the delay. A second signal cuts all
requests at once.

One of several processes of a supervisor takes orders from it over a pair of sockets, see `StopOrder`. It ignores repeated signals, which may
come from an init system that signals each process. It stops when its supervisor has ended.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from types import FrameType

import structlog
import uvicorn

from app.api.http.application import ApiApplication
from app.api.http.connections import ConnectionRegistry
from app.api.http.protocol import HttpProtocol
from app.api.http.sockets import BACKLOG, is_readable

LAST_REQUESTS_SECONDS = 0.2
"""How long idle connections stay open after the listeners have closed: requests that were sent to them before are still answered."""
ACCEPT_SECONDS = 1.0
"""How long connections that wait in the backlog are still accepted before the listeners close, if ever more come."""
READY = b"r"
"""What a process tells its supervisor once it serves."""
_POLL_SECONDS = 0.05

log = structlog.get_logger(__name__)


class StopOrder(Enum):
    """What a supervisor tells a process. `DRAIN`: as SIGTERM. `REPLACED`: as SIGINT, since other processes accept the connections. `END`: cut
    what is running."""

    DRAIN = b"d"
    REPLACED = b"n"
    END = b"e"


class DrainingServer(uvicorn.Server):
    """Serves `app` until a signal ends it. `run` returns then, also for SIGTERM, so that the process can exit with status 0."""

    def __init__(
        self,
        app: ApiApplication,
        registry: ConnectionRegistry,
        *,
        drain_delay: float,
        drain_seconds: float,
        on_started: Callable[[], Awaitable[None]],
        on_stopped: Callable[[], object],
        supervisor: socket.socket | None = None,
    ) -> None:
        """Delays in seconds. `on_started` is called once the server listens, `on_stopped` once all services are closed: it should end the
        process, since the end of the event loop waits for threads that hang on a dead disk. `supervisor`: this process's end of the pair of
        sockets."""
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=partial(HttpProtocol, registry=registry),  # pyright: ignore[reportArgumentType]
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
            )
        )
        self._app = app
        self._registry = registry
        self._drain_delay = drain_delay
        self._drain_seconds = drain_seconds
        self._on_started = on_started
        self._on_stopped = on_stopped
        self._supervisor = supervisor
        self._stop_at = float("inf")
        """On the monotonic clock: when the listeners close."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            await self._on_started()
            if self._supervisor is not None:
                self._supervisor.setblocking(False)
                asyncio.get_running_loop().add_reader(self._supervisor, self._read_orders, self._supervisor)
                with suppress(OSError):  # the supervisor has ended, which `_read_orders` notices
                    self._supervisor.send(READY)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal is not raised again after the stop, as uvicorn would do: a stop that was asked for is no failure."""
        if self._stop_at == float("inf"):
            self._stop_at = time.monotonic() + (self._drain_delay if sig == signal.SIGTERM else 0.0)
        elif self._supervisor is None:
            self._end_now()

    def _read_orders(self, supervisor: socket.socket) -> None:
        try:
            orders = supervisor.recv(64)
        except BlockingIOError:
            return
        except OSError:  # it ended before it had read that this process is ready
            orders = b""
        if not orders:
            asyncio.get_running_loop().remove_reader(supervisor)
            log.error("the supervisor of this process has ended")
        if StopOrder.END.value in orders:
            self._end_now()
        elif self._stop_at == float("inf"):
            self._stop_at = time.monotonic() + (self._drain_delay if StopOrder.DRAIN.value in orders else 0.0)

    def _end_now(self) -> None:
        self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        if await super().on_tick(counter):
            return True
        if self._stop_at < float("inf") and not self._registry.is_draining:
            self._begin_drain()
        return time.monotonic() >= self._stop_at

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if not self._registry.is_draining:
            self._begin_drain()
        await _accept_waiting(sockets or [])
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        await self._wait_for_requests()
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()
        self._registry.poller.close()
        self._on_stopped()

    def _begin_drain(self) -> None:
        self._registry.is_draining = True
        if self.started and not self.lifespan.should_exit:
            self._app.services.health.begin_drain()
        delay = max(0.0, self._stop_at - time.monotonic())
        log.info("the service stops", delay=round(delay, 1), seconds=self._drain_seconds)

    async def _wait_for_requests(self) -> None:
        """Wait until all requests have ended, for at most `drain_seconds`, or until a second signal comes. Idle connections close."""
        begun = time.monotonic()
        while not self.force_exit and time.monotonic() - begun < self._drain_seconds:
            if time.monotonic() - begun >= min(LAST_REQUESTS_SECONDS, self._drain_seconds):
                for connection in list(self.server_state.connections):
                    connection.shutdown()
            await asyncio.sleep(_POLL_SECONDS)
            if not self.server_state.connections and not self.server_state.tasks:
                return


async def _accept_waiting(sockets: list[socket.socket]) -> None:
    """Let the event loop accept what waits in the backlogs: the kernel resets those connections when the listeners close, and their clients may
    have sent a request already. Returns right after a look at empty backlogs."""
    end = time.monotonic() + ACCEPT_SECONDS
    while any(map(is_readable, sockets)) and time.monotonic() < end:  # noqa: ASYNC110 - the event loop does not tell
        await asyncio.sleep(0)
