"""A server that echoes each request as `HttpProtocol` parsed it, for tests of framing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from app.api.http.application import ApiApplication
from app.api.http.connections import ConnectionLimits, ConnectionRegistry
from app.api.http.protocol import HttpProtocol

FROM_MEMORY_PREFIX = b"/b"
"""`wrap_in_application` answers targets with this prefix without an ASGI call, from the head alone."""
UNBOUNDED = ConnectionLimits(max_connections=10**6, max_per_address=10**6, idle_seconds=3600, minimum_rate=0)


def echo_body(method: bytes, target: bytes, body: bytes) -> bytes:
    """The expected response body for this request."""
    return b"%b %b %d %b" % (method, target, len(body), body)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    answer = echo_body(scope["method"].encode(), _target(scope), body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


def echo_from_memory(scope: Scope, _services: object) -> tuple[bytes, bytes] | None:
    if not scope["raw_path"].startswith(FROM_MEMORY_PREFIX):
        return None
    answer = echo_body(scope["method"].encode(), _target(scope), b"")
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % len(answer), answer


def wrap_in_application(app: ASGIApp = echo) -> ApiApplication:
    """`app` inside an `ApiApplication`, as in the service; it answers targets of `FROM_MEMORY_PREFIX` without a task."""
    services: Any = None
    state = SimpleNamespace(services=services)
    return ApiApplication(app, lambda _: None, echo_from_memory, lambda: nullcontext(services), state)


def _target(scope: Scope) -> bytes:
    return scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")


@asynccontextmanager
async def run_server(app: ASGIApp, protocol: type[HttpProtocol] = HttpProtocol) -> AsyncIterator[int]:
    """Run a server of `app` in this process; yields its port."""
    config = uvicorn.Config(app, log_config=None, ws="none", proxy_headers=False)  # pyright: ignore[reportArgumentType]
    state = ServerState()
    connections = ConnectionRegistry(UNBOUNDED)
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config, state, {}, registry=connections), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]
