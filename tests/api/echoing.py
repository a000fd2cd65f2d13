"""A server whose answers tell what it took for a request: `Protocol` before an application that echoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from app.api.connections import ConnectionLimits, Connections
from app.api.protocol import Protocol

UNBOUNDED = ConnectionLimits(connections=10**6, per_address=10**6, idle_seconds=3600, minimum_rate=0)


def echoed(method: bytes, target: bytes, body: bytes) -> bytes:
    """The body of the answer to this request."""
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
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    answer = echoed(scope["method"].encode(), target, body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


@asynccontextmanager
async def serving(app: ASGIApp, protocol: type[Protocol] = Protocol) -> AsyncIterator[int]:
    """The port of a server of this application in this process."""
    config = uvicorn.Config(app, log_config=None, ws="none")  # pyright: ignore[reportArgumentType]
    state = ServerState()
    connections = Connections(UNBOUNDED)
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config, state, {}, connections=connections), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]
