"""A server whose answers tell what it took for a request: `Protocol` before an application that echoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.api.protocol import Protocol


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
async def echo_server() -> AsyncIterator[int]:
    """The port that it listens on."""
    config = uvicorn.Config(echo, log_config=None, ws="none")
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: Protocol(config, state, {}), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
