"""`HttpProtocol`: bounds on the size and time of request heads, and malformed heads."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from starlette.types import Receive, Scope, Send

from app.api.http.protocol import HttpProtocol
from app.delivery.disconnects import DISCONNECT_SOURCE
from tests.api.echo_server import run_server
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.http_raw import RawConnection, RawResponse
from tests.real.service import Service
from tests.real.uploads import UploadConnection

__all__ = ["stack"]

MEBIBYTE = 1024 * 1024
LINE = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
CHUNKED = (
    b"POST /api/search/metadata HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
)
HEAD_SECONDS = 0.4


class ImpatientProtocol(HttpProtocol):
    head_timeout_seconds = HEAD_SECONDS


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers; `/slow` takes longer than the head timeout."""
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * HEAD_SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@pytest.fixture
async def impatient() -> AsyncIterator[int]:
    """The port of a server that waits for heads as long as `HEAD_SECONDS`."""
    async with run_server(greet, ImpatientProtocol) as port:
        yield port


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (LINE + b"x: ", b"a" * MEBIBYTE),
        (LINE, b"a: b\r\n" * 200_000),
        (b"GET /", b"a" * MEBIBYTE),
        (b"", b"\r\n" * (MEBIBYTE // 2)),
    ],
    ids=["one field", "many lines", "target", "nothing"],
)
def test_a_head_without_end_is_refused(service: Service, before: bytes, piece: bytes) -> None:
    held = _resident(service)
    with UploadConnection(service.port) as wire:
        wire.send(before)
        wire.send_while_accepted([piece] * 200)
        assert _resident(service) - held < 50 * MEBIBYTE
    with UploadConnection(service.port) as wire:
        wire.send(before + piece[: MEBIBYTE // 2])
        answer = wire.answer()

    assert answer.status == 431
    assert answer.headers["connection"] == "close"
    _assert_problem(answer.status, answer.headers, answer.body)


def test_a_head_that_comes_whole_is_refused_too(service: Service) -> None:
    with UploadConnection(service.port) as wire:
        wire.send(LINE + b"x: " + b"a" * 65_536 + b"\r\n\r\n")
        assert wire.answer().status == 431
    with UploadConnection(service.port) as wire:
        wire.send(LINE + b"x: " + b"a" * 60_000 + b"\r\n\r\n")
        assert wire.answer().status == 200


@pytest.mark.parametrize("stray", [b"5;", b"0\r\nx: "], ids=["extension of a chunk", "trailer"])
def test_what_is_no_body_does_not_go_on_for_ever(service: Service, account: Account, stray: bytes) -> None:
    held = _resident(service)
    with UploadConnection(service.port) as wire:
        wire.send(CHUNKED + f"x-api-key: {account.key}\r\n\r\n".encode() + stray)
        wire.send_while_accepted([b"a" * MEBIBYTE] * 200)
        assert _resident(service) - held < 50 * MEBIBYTE
    with UploadConnection(service.port) as wire:
        wire.send(CHUNKED + f"x-api-key: {account.key}\r\n\r\n".encode() + stray + b"a" * (MEBIBYTE // 2))
        answer = wire.answer()

    assert answer.status == 431
    _assert_problem(answer.status, answer.headers, answer.body)


def test_trailers_are_no_headers(service: Service, account: Account) -> None:
    with UploadConnection(service.port) as wire:
        wire.send(CHUNKED + b"\r\n2\r\n{}\r\n0\r\n" + f"x-api-key: {account.key}\r\n\r\n".encode())
        status, _ = wire.head()

    assert status == 401


def test_what_is_no_http_is_refused_in_the_one_shape(service: Service) -> None:
    with UploadConnection(service.port) as wire:
        wire.send(b"Good morning\r\n\r\n")
        answer = wire.answer()
        assert wire.receive(1) == b""

    assert answer.status == 400
    _assert_problem(answer.status, answer.headers, answer.body)


@pytest.mark.parametrize("begun", [b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n"])
async def test_half_a_head_is_waited_for_only_so_long(impatient: int, begun: bytes) -> None:
    async with await RawConnection.open("127.0.0.1", impatient) as connection:
        await connection.send(begun)
        answer = await connection.read_response()
        assert await connection.read_to_end() == b""

    assert answer.status == 408
    _assert_problem(answer.status, dict(answer.headers), answer.body)


async def test_half_a_second_head_is_waited_for_no_longer(impatient: int) -> None:
    async with await RawConnection.open("127.0.0.1", impatient) as connection:
        assert (await connection.request("GET", "/")).body == b"hi"
        await connection.send(b"GET / HT")
        assert (await connection.read_response()).status == 408


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_silent_connection_is_closed(impatient: int, sent: bytes) -> None:
    async with await RawConnection.open("127.0.0.1", impatient) as connection:
        await connection.send(sent)
        assert await connection.read_to_end() == b""


async def test_a_head_that_drips_is_given_up(impatient: int) -> None:
    """Each byte arrives within the timeout, the whole head does not."""
    async with await RawConnection.open("127.0.0.1", impatient) as connection:
        answer: asyncio.Task[RawResponse] = asyncio.create_task(connection.read_response())
        for byte in LINE:
            await connection.send(bytes([byte]))
            done, _ = await asyncio.wait([answer], timeout=HEAD_SECONDS / 4)
            if done:
                break
        assert (await answer).status == 408


async def test_half_a_head_behind_a_slow_request_does_not_break_it(impatient: int) -> None:
    async with await RawConnection.open("127.0.0.1", impatient) as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nGET / HT")
        assert (await connection.read_response()).body == b"hi"


async def test_rubbish_behind_a_request_is_answered_behind_its_answer(impatient: int) -> None:
    async with await RawConnection.open("127.0.0.1", impatient) as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nGood morning\r\n\r\n")
        assert (await connection.read_response()).body == b"hi"
        assert (await connection.read_response()).status == 400


def test_connections_are_bounded(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_CONNECTIONS": "3"})
    with ExitStack() as open_ones:
        wires = [open_ones.enter_context(UploadConnection(service.port)) for _ in range(3)]
        for wire in wires:
            wire.send(LINE + b"\r\n")
            assert wire.answer().status == 200
        with UploadConnection(service.port) as refused:
            answer = refused.answer()
        wires[0].send(LINE + b"\r\n")
        assert wires[0].answer().status == 200

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    _assert_problem(answer.status, answer.headers, answer.body)
    with service.client() as client:
        assert client.get("/livez").status_code == 200


def _resident(service: Service) -> int:
    return service.process.memory_info().rss


def _assert_problem(status: int, headers: dict[str, str], body: bytes) -> None:
    problem = json.loads(body)
    assert headers["content-type"] == "application/problem+json"
    assert problem["status"] == problem["statusCode"] == status
    assert headers["x-correlation-id"] == problem["correlationId"]


async def test_an_answered_request_is_freed_without_the_garbage_collector() -> None:
    cycles: list[weakref.ref[object]] = []

    async def note_cycle(scope: Scope, receive: Receive, send: Send) -> None:
        cycles.append(weakref.ref(scope["extensions"][DISCONNECT_SOURCE]))
        await greet(scope, receive, send)

    gc.disable()
    try:
        async with run_server(note_cycle) as port, await RawConnection.open("127.0.0.1", port) as connection:
            for _ in range(3):
                await connection.request("GET", "/")
            assert [cycle() is None for cycle in cycles] == [True, True, False], "the connection keeps the last one"
    finally:
        gc.enable()
