"""Request bodies: their end, the bytes parsed per call, and bodies that no handler reads."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.errors import ApiError
from app.api.http.protocol import HttpProtocol
from app.api.http.request_body import MAX_LINE_BYTES, BodyFraming
from tests.api.echo_server import echo, echo_body, run_server
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.http_raw import RawConnection
from tests.real.service import Service
from tests.real.uploads import UploadConnection, fresh_bytes, uploaded

__all__ = ["stack"]

READ_BYTES = 256 * 1024
HEAD = b"POST /many HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE_BYTE_CHUNKS = 15_000


def parts(stream: bytes, piece: int = READ_BYTES) -> list[int]:
    """The number of bytes that the parser receives per call, for a chunked body that arrives in pieces of `piece` bytes."""
    framing = BodyFraming()
    framing.begin(None)
    taken: list[int] = []
    for start in range(0, len(stream), piece):
        data, position = stream[start : start + piece], 0
        while position < len(data) and not framing.is_complete:
            end = framing.advance(data, position, len(data))
            taken.append(end - position)
            position = end
    assert framing.is_complete
    return taken


@pytest.mark.parametrize("content", [b"\r\n\r\n", b"0\r\n\r\n", b"1\r\n"])
def test_what_looks_like_an_end_within_a_chunk_is_passed_over(content: bytes) -> None:
    data = content * 50_000
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)

    assert parts(body) == [len(body[start : start + READ_BYTES]) for start in range(0, len(body), READ_BYTES)]


def test_many_chunks_are_given_together_but_not_all_at_once() -> None:
    taken = parts(b"1\r\na\r\n" * ONE_BYTE_CHUNKS + b"0\r\n\r\n")

    assert max(taken) < 5_000 * len(b"1\r\na\r\n")
    assert len(taken) < ONE_BYTE_CHUNKS / 1_000


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100, READ_BYTES])
@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n\r\n",
        b"1\r\n\n\r\n00\r\n\r\n",
        b"2;a=b\r\n\r\n\r\n10\r\n\r\n\r\n0\r\n\r\n0\r\n\r\nxy\r\n000;q\r\nX: y\r\nZ:\r\n\r\n",
        b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n",
        (b"10\r\n" + b"\r" * 16 + b"\r\n") * 600 + b"0\r\n\r\n",
    ],
)
def test_the_end_is_found_however_the_bytes_arrive(body: bytes, piece: int) -> None:
    """What is behind it is not taken for a part of it."""
    assert sum(parts(body + b"GET / HTTP/1.1\r\n\r\n", piece)) == len(body)


@pytest.mark.parametrize(
    "line", [b"-5\r\n", b"+5\r\n", b"0x5\r\n", b"1_0\r\n", b" 5\r\n", b"\r\n", b";a\r\n", b"5\n", b"5 \r\n"]
)
@pytest.mark.parametrize("piece", [1, READ_BYTES])
def test_a_size_that_is_none_is_refused(line: bytes, piece: int) -> None:
    with pytest.raises(ApiError) as refused:
        parts(line + b"abcde\r\n0\r\n\r\n", piece)

    assert refused.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"5;" + b"a" * MAX_LINE_BYTES,
        b"5;" + b"a" * MAX_LINE_BYTES + b"\r\nabcde\r\n0\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * (MAX_LINE_BYTES // 6 + 1) + b"\r\n",
        b"0" * MAX_LINE_BYTES + b"0",
    ],
    ids=["begun", "whole", "trailers", "digits"],
)
@pytest.mark.parametrize("piece", [1000, READ_BYTES])
def test_what_stands_around_chunks_is_bounded(body: bytes, piece: int) -> None:
    with pytest.raises(ApiError) as refused:
        parts(body, piece)

    assert refused.value.status == 431


async def test_many_chunks_of_one_client_do_not_hold_up_another() -> None:
    """They are there first; the other request comes to the application first."""
    arrived: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                arrived.append(scope["path"])
            return message

        await echo(scope, noted, send)

    async with (
        run_server(app) as port,
        await RawConnection.open("127.0.0.1", port) as many,
        await RawConnection.open("127.0.0.1", port) as one,
    ):
        await many.send(HEAD + b"1\r\na\r\n" * ONE_BYTE_CHUNKS + b"0\r\n\r\n")
        await one.send(b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n")
        bodies = [(await each.read_response()).body for each in (many, one)]
        assert (await many.request("GET", "/next")).body == echo_body(b"GET", b"/next", b"")

    assert bodies == [echo_body(b"POST", b"/many", b"a" * ONE_BYTE_CHUNKS), echo_body(b"GET", b"/one", b"")]
    assert arrived == ["/one", "/many", "/next"]


@pytest.fixture
def photo(service: Service, account: Account) -> str:
    """The path of a file that was requested just before, so that the next response comes from memory."""
    with service.client(account) as client:
        path = f"/api/assets/{uploaded(client, fresh_bytes(1000))}/original"
        for _ in range(2):
            assert client.get(path).status_code == 200
    return path


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 65537"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("place", ["livez", "photo"])
def test_an_answer_to_which_much_of_a_body_is_to_come_ends_the_connection(
    service: Service, account: Account, photo: str, place: str, method: str, framing: str
) -> None:
    path = {"livez": "/livez", "photo": photo}[place]
    with UploadConnection(service.port) as wire:
        wire.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {account.key}\r\n{framing}\r\n\r\n".encode())
        status, headers = wire.head()
        left = b"" if method == "HEAD" else wire.receive(int(headers["content-length"]))
        wire.send(b"5\r\nabcde\r\n")
        end = wire.receive(1)

    assert (status, headers["connection"], end) == (200, "close", b"")
    assert left or method == "HEAD"


@pytest.mark.parametrize("place", ["livez", "photo"])
def test_a_small_body_that_nobody_reads_ends_nothing(
    service: Service, account: Account, photo: str, place: str
) -> None:
    path = {"livez": "/livez", "photo": photo}[place]
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {account.key}\r\n".encode()
    with UploadConnection(service.port) as wire:
        wire.send(head + b"Content-Length: 65536\r\n\r\n")
        first = wire.answer()
        wire.send(bytes(65536) + head + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
        second = wire.answer()
        wire.send(head + b"\r\n")
        third = wire.answer()

    assert [each.status for each in (first, second, third)] == [200] * 3
    assert "connection" not in first.headers
    assert "connection" not in second.headers


@pytest.mark.parametrize("place", ["livez", "photo"])
def test_who_waits_for_an_invitation_and_is_answered_without_has_no_next_request_there(
    service: Service, account: Account, photo: str, place: str
) -> None:
    path = {"livez": "/livez", "photo": photo}[place]
    with UploadConnection(service.port) as wire:
        wire.send_head("GET", path, {"expect": "100-continue", "content-length": "45", "x-api-key": account.key})
        answer = wire.answer()
        wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        end = wire.receive(1)

    assert (answer.status, answer.headers["connection"], end) == (200, "close", b"")


async def test_what_arrived_before_the_client_was_gone_comes_before_the_disconnect() -> None:
    lost = asyncio.Event()
    received: asyncio.Future[list[tuple[str, bytes]]] = asyncio.get_running_loop().create_future()

    class ObservedProtocol(HttpProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    async def read_late(_scope: Scope, receive: Receive, _send: Send) -> None:
        await lost.wait()
        messages = [await receive(), await receive()]
        received.set_result([(message["type"], message.get("body", b"")) for message in messages])

    async with run_server(read_late, ObservedProtocol) as port:
        async with await RawConnection.open("127.0.0.1", port) as connection:
            await connection.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello")
        async with asyncio.timeout(10):
            messages = await received

    assert messages == [("http.request", b"hello"), ("http.disconnect", b"")]
