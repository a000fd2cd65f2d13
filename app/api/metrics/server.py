"""`MetricsServer`: answers `GET /metrics` on a listening socket of its own, in the event loop of the process that it tells about.

All processes of a host share the socket: whichever accepts a connection answers with the sums of all.
"""

from __future__ import annotations

import asyncio
import platform
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app import __version__
from app.api.errors import ApiError
from app.api.http.application import send_problem
from app.api.http.connections import ConnectionLimits, ConnectionRegistry
from app.api.http.protocol import HttpProtocol
from app.api.request_context import generate_correlation_id
from app.health.installation_metrics import InstallationMetrics
from app.metrics.exposition import write_metrics
from app.metrics.families import BUILD_INFO
from app.metrics.instruments import ProcessMetrics
from app.metrics.sampler import sampling

MOST_CONNECTIONS = 16
_LIMITS = ConnectionLimits(
    max_connections=MOST_CONNECTIONS, max_per_address=MOST_CONNECTIONS, idle_seconds=10.0, minimum_rate=1024
)
_BUILD = {BUILD_INFO: {(__version__, platform.python_version()): 1.0}}


class MetricsApplication:
    """The ASGI application. One answer is made at a time."""

    def __init__(self, metrics: ProcessMetrics, installation: InstallationMetrics) -> None:
        self._metrics = metrics
        self._installation = installation
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        correlation_id = generate_correlation_id()
        is_head = scope["method"] == "HEAD"
        if scope["path"] != "/metrics":
            await send_problem(ApiError(404, "Not Found"), correlation_id, send, head=is_head)
        elif scope["method"] not in ("GET", "HEAD"):
            error = ApiError(405, "Method Not Allowed", headers={"allow": "GET, HEAD"})
            await send_problem(error, correlation_id, send)
        else:
            accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
            body, content_type = await self._write(accept)
            headers = [
                (b"content-type", content_type.encode("latin-1")),
                (b"content-length", b"%d" % len(body)),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if is_head else body})

    async def _write(self, accept: str) -> tuple[bytes, str]:
        async with self._turn:
            gauges = await self._installation.read()
            self._metrics.sample_gauges()
            # In a thread: with all routes in use it takes a tenth of a second.
            segments = self._metrics.segments.segments
            return await asyncio.to_thread(write_metrics, segments, {**_BUILD, **gauges}, accept)


@asynccontextmanager
async def serving_metrics(
    metrics: ProcessMetrics, installation: InstallationMetrics, sockets: Sequence[socket.socket]
) -> AsyncIterator[None]:
    """Answer on `sockets`, and sample the process's gauges, until the block ends."""
    config = uvicorn.Config(
        MetricsApplication(metrics, installation),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    config.load()
    state = ServerState()
    registry = ConnectionRegistry(_LIMITS)
    protocol = partial(HttpProtocol, config=config, server_state=state, app_state={}, registry=registry)
    loop = asyncio.get_running_loop()
    async with sampling(metrics):
        servers = [await loop.create_server(protocol, sock=each) for each in sockets]
        try:
            yield
        finally:
            for server in servers:
                server.close()
            for connection in list(state.connections):
                connection.shutdown()
