"""Interim responses: they come before the final response, to clients of HTTP/1.1, and never inside another response."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.http.responses.interim_responses import find_interim_responder
from tests.api.echo_server import echo, run_server
from tests.real.http_raw import RawConnection
from tests.real.nginx import Nginx

HEADERS = {"Location": "/api/upload/1", "Upload-Draft-Interop-Version": "8"}
REQUEST = "POST /{} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{}\r\n"


async def answer_twice(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends an interim response before the body is read, one after it, and one after the final response."""
    responder = find_interim_responder(scope)
    if responder is not None:
        responder.send(104, HEADERS)

    async def send_then_interim(message: Message) -> None:
        if responder is not None and message["type"] == "http.response.start":
            responder.send(104, {"Upload-Offset": "5"})
        await send(message)
        if responder is not None:
            responder.send(104, {"too": "late"})

    await echo(scope, receive, send_then_interim)


async def test_before_and_after_the_body() -> None:
    async with run_server(answer_twice) as port, await RawConnection.open("127.0.0.1", port) as connection:
        for target in ("first", "second"):  # on one connection
            await connection.send(REQUEST.format(target, 5, "").encode())
            status, headers = await connection.read_head()
            assert (status, dict(headers)) == (104, {name.lower(): value for name, value in HEADERS.items()})

            await connection.send(b"hello")

            assert await connection.read_head() == (104, (("upload-offset", "5"),))
            status, headers = await connection.read_head()
            assert status == 200
            body = await connection.read_up_to(int(dict(headers)["content-length"]))
            assert body == f"POST /{target} 5 hello".encode()


async def test_before_100_continue() -> None:
    async with run_server(answer_twice) as port, await RawConnection.open("127.0.0.1", port) as connection:
        await connection.send(REQUEST.format("a", 5, "expect: 100-continue\r\n").encode())
        assert [(await connection.read_head())[0] for _ in range(2)] == [104, 100]
        await connection.send(b"hello")
        assert [(await connection.read_head())[0] for _ in range(2)] == [104, 200]


async def test_none_on_http_1_0() -> None:
    async with run_server(answer_twice) as port, await RawConnection.open("127.0.0.1", port) as connection:
        await connection.send(b"POST /a HTTP/1.0\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")
        assert (await connection.read_head())[0] == 200


async def test_none_through_a_proxy_that_takes_them_for_the_answer(tmp_path: Path) -> None:
    async with run_server(answer_twice) as port:
        with Nginx(tmp_path, port) as proxy:
            async with await RawConnection.open("127.0.0.1", proxy.port) as connection:
                for target in ("/first", "/second"):  # on one connection
                    await connection.send_request("POST", target, body=b"hello")
                    status, headers = await connection.read_head()
                    assert status == 200
                    assert (
                        await connection.read_up_to(int(dict(headers)["content-length"]))
                        == f"POST {target} 5 hello".encode()
                    )


async def test_none_after_the_client_is_gone() -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait_for_disconnect(scope: Scope, receive: Receive, _send: Send) -> None:
        responder = find_interim_responder(scope)
        assert responder is not None
        while (await receive())["type"] != "http.disconnect":
            pass
        responder.send(104, HEADERS)
        ended.set_result(None)

    async with run_server(wait_for_disconnect) as port:
        async with await RawConnection.open("127.0.0.1", port) as connection:
            await connection.send(REQUEST.format("a", 5, "").encode() + b"h")
            connection.vanish()
        async with asyncio.timeout(10):
            await ended


@pytest.mark.parametrize("scope", [{}, {"extensions": {}}])
def test_another_server_has_none(scope: Scope) -> None:
    assert find_interim_responder(scope) is None
