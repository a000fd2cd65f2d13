"""Framing of requests (RFC 9112 section 6): `Upgrade` fields and the sizes of the client's writes have no effect on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from tests.api.echo_server import echo, echo_body, run_server
from tests.real import archive_programs
from tests.real.accounts import Account
from tests.real.http_raw import RawConnection
from tests.real.nginx import Nginx
from tests.real.service import Service
from tests.real.uploads import FIELDS, fresh_bytes

HIDDEN = b"GET /api/server/version HTTP/1.1\r\nHost: x\r\n\r\n"
"""A body that looks like a request, and must never be parsed as one."""
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "several lines": b"upgrade: h2c\r\nCONNECTION: keep-alive\r\nconnection: upgrade\r\nUpgrade: x/1\r\n",
}
BODIES = {
    "none": (b"", b""),
    "length": (b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    "chunked": (
        b"Transfer-Encoding: chunked\r\n",
        b"7\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (HIDDEN[:7], len(HIDDEN) - 7, HIDDEN[7:]),
    ),
}
BEFORE = b"GET /before HTTP/1.1\r\nHost: x\r\n\r\n"
BEHIND = b"GET /behind HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
async def echo_port() -> AsyncIterator[int]:
    async with run_server(echo) as port:
        yield port


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("size", [10_000, 40, 7, 1])
async def test_upgrade_moves_no_boundary(echo_port: int, upgrade: str, body: str, size: int) -> None:
    """In writes of `size` bytes, with requests before and behind."""
    fields, sent = BODIES[body]
    request = b"POST /this HTTP/1.1\r\nHost: x\r\n%b%b\r\n%b" % (UPGRADES[upgrade], fields, sent)
    stream = BEFORE + request + BEHIND
    async with await RawConnection.open("127.0.0.1", echo_port) as connection:
        for start in range(0, len(stream), size):
            await connection.send(stream[start : start + size])
        answers = [(await connection.read_response()).body for _ in range(3)]
        assert (await connection.request("GET", "/last")).body == echo_body(b"GET", b"/last", b"")

    wanted = echo_body(b"POST", b"/this", b"" if body == "none" else HIDDEN)
    assert answers == [echo_body(b"GET", b"/before", b""), wanted, echo_body(b"GET", b"/behind", b"")]


@pytest.mark.parametrize("body", ["length", "chunked"])
@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_a_body_that_comes_after_its_head_was_read_is_no_request(echo_port: int, upgrade: str, body: str) -> None:
    fields, sent = BODIES[body]
    async with await RawConnection.open("127.0.0.1", echo_port) as connection:
        await connection.send(
            b"POST /this HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%b%b\r\n" % (UPGRADES[upgrade], fields)
        )
        assert (await connection.read_head())[0] == 100
        await connection.send(sent)
        assert (await connection.read_response()).body == echo_body(b"POST", b"/this", HIDDEN)
        assert (await connection.request("GET", "/last")).body == echo_body(b"GET", b"/last", b"")


async def test_http_1_0_knows_no_invitation(echo_port: int) -> None:
    """Who asks for one is answered when the body has come, without an interim answer (RFC 9110 section 10.1.1)."""
    async with await RawConnection.open("127.0.0.1", echo_port) as connection:
        await connection.send(b"POST /this HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        status, headers = await connection.read_head()

    assert (status, dict(headers)["connection"]) == (200, "close")


async def test_a_body_that_was_refused_is_not_asked_for() -> None:
    """The refusal is the last that the connection sends: an application that reads the body then is told that the client is gone."""
    told: list[str] = []

    async def application(_scope: Scope, receive: Receive, _send: Send) -> None:
        told.append((await receive())["type"])

    async with run_server(application) as port, await RawConnection.open("127.0.0.1", port) as connection:
        await connection.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
        )
        status, _ = await connection.read_head()

    assert status == 400
    assert told == ["http.disconnect"]


@pytest.mark.parametrize(
    "fields",
    [b"Content-Length: 3\r\nContent-Length: 4\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"],
    ids=["two lengths", "length and coding"],
)
async def test_an_unclear_length_stays_one_with_upgrade(echo_port: int, fields: bytes) -> None:
    async with await RawConnection.open("127.0.0.1", echo_port) as connection:
        await connection.send(b"POST / HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (UPGRADES["h2c"], fields) + HIDDEN)
        assert (await connection.read_response()).status == 400
        assert await connection.read_to_end() == b""


async def test_a_tunnel_is_not_opened(echo_port: int) -> None:
    async with await RawConnection.open("127.0.0.1", echo_port) as connection:
        await connection.send(b"CONNECT inside:80 HTTP/1.1\r\nHost: inside:80\r\n\r\n" + HIDDEN)
        assert (await connection.read_response()).status == 501
        assert await connection.read_to_end() == b""


async def test_a_proxy_that_keeps_connections_gives_nobody_anothers_request(
    service: Service, account: Account, tmp_path: Path
) -> None:
    """The proxy keeps one connection to the service; what a stranger hides in a body must not be put before the next request on it.

    The blank lines are more than the proxy passes on in one write.
    """
    hidden = b"\r\n" * 25_000 + b"GET /api/server/version HTTP/1.1\r\nX-Swallowed: "
    with Nginx(tmp_path, service.port) as nginx:
        for upgrade in UPGRADES.values():
            async with (
                await RawConnection.open("127.0.0.1", nginx.port) as stranger,
                await RawConnection.open("127.0.0.1", nginx.port) as victim,
            ):
                head = b"GET /readyz HTTP/1.1\r\nHost: x\r\n"
                await stranger.send(head + b"%bContent-Length: %d\r\n\r\n" % (upgrade, len(hidden)) + hidden)
                assert (await stranger.read_response()).status == 200
                mine = await victim.request("GET", "/api/users/me", [("x-api-key", account.key)])
                nobodys = await stranger.request("GET", "/api/users/me")

            assert mine.status == 200
            assert json.loads(mine.body)["email"] == account.email
            assert nobodys.status == 401


def test_curl_uploads_although_it_offers_http2(service: Service, account: Account, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(fresh_bytes(3_000_000))
    form = [word for name, value in FIELDS.items() for word in ("-F", f"{name}={value}")]
    finished = archive_programs.run(
        "curl", "--silent", "--show-error", "--http2", *form, "-F", f"assetData=@{photo}",
        "-H", f"x-api-key: {account.key}", f"{service.url}/api/assets",
    )  # fmt: skip

    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["status"] == "created"
