"""Bodies that are read from the socket without a turn of the event loop: order, framing, and the turns of other connections."""

from __future__ import annotations

import asyncio
import random
import socket
from asyncio import Transport
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from app.api.http.protocol import HttpProtocol
from app.api.http.responses.body_reader import READ_BYTES
from app.api.http.responses.uvicorn_cycle import MAX_UNAWAITED_BYTES
from app.api.http.sockets import is_readable
from tests.api.echo_server import echo, echo_body, run_server

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
TRANSPORT_READ_BYTES = 256 * KIBIBYTE
"""The most that asyncio and uvloop read at a time."""
WAIT_SECONDS = 20


class Recorder:
    """An application that receives a body, and records what happens."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_disconnected = False
        self.bytes_by_turn: dict[int, int] = {}
        self.transport: Transport | None = None
        self.turn = 0
        self.is_waiting_for_bytes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count_turn()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.is_disconnected = True
                return
            self.body += message["body"]
            self.bytes_by_turn[self.turn] = self.bytes_by_turn.get(self.turn, 0) + len(message["body"])
            more = message["more_body"]
            if self.is_waiting_for_bytes and more:
                await self._wait_for_bytes()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _count_turn(self) -> None:
        self.turn += 1
        asyncio.get_running_loop().call_soon(self._count_turn)

    async def _wait_for_bytes(self) -> None:
        """Until the kernel has more of the body."""
        assert self.transport is not None
        connection: socket.socket = self.transport.get_extra_info("socket")
        async with asyncio.timeout(WAIT_SECONDS):
            while not is_readable(connection):  # noqa: ASYNC110 - the transport tells only what it reads itself
                await asyncio.sleep(0)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def port(recorder: Recorder) -> AsyncIterator[int]:
    class RecordingProtocol(HttpProtocol):
        def connection_made(self, transport: Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            recorder.transport = transport
            super().connection_made(transport)

    async with run_server(recorder, RecordingProtocol) as port:
        yield port


async def test_what_has_arrived_is_received_without_a_turn_of_the_event_loop(recorder: Recorder, port: int) -> None:
    recorder.is_waiting_for_bytes = True
    body = random.randbytes(2 * MEBIBYTE)

    answer = await _exchange(port, _build_request(body))

    assert answer.startswith(b"HTTP/1.1 204 ")
    assert bytes(recorder.body) == body
    assert max(recorder.bytes_by_turn.values()) > TRANSPORT_READ_BYTES


async def test_other_connections_have_their_turn(recorder: Recorder, port: int) -> None:
    body = bytes(64 * MEBIBYTE)

    await _exchange(port, _build_request(body))

    assert len(recorder.body) == len(body)
    assert max(recorder.bytes_by_turn.values()) <= MAX_UNAWAITED_BYTES + READ_BYTES + TRANSPORT_READ_BYTES


async def test_the_next_requests_are_no_part_of_the_body(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [1, 64 * KIBIBYTE, 64 * KIBIBYTE + 1, MEBIBYTE, *(rng.randrange(3 * MEBIBYTE) for _ in range(6))]
    bodies = [rng.randbytes(size) for size in rng.sample(sizes, len(sizes))]

    async with run_server(echo) as port:
        answer = await _exchange(port, b"".join(map(_build_request, bodies)), ends=True)

    answered = [part.partition(b"\r\n\r\n")[2] for part in _split_answers(answer)]
    assert answered == [echo_body(b"POST", b"/", body) for body in bodies]


async def test_what_came_before_a_disconnect_is_received(recorder: Recorder, port: int) -> None:
    begun = random.randbytes(3 * MEBIBYTE // 2)
    _, writer = await asyncio.open_connection("127.0.0.1", port)

    writer.write(_build_head(4 * MEBIBYTE) + begun)
    await writer.drain()
    writer.close()
    async with asyncio.timeout(WAIT_SECONDS):
        while not recorder.is_disconnected:  # noqa: ASYNC110
            await asyncio.sleep(0)

    assert bytes(recorder.body) == begun


def _build_head(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size


def _build_request(body: bytes) -> bytes:
    return _build_head(len(body)) + body


async def _exchange(port: int, sent: bytes, *, ends: bool = False) -> bytes:
    """Send, and receive the first bytes of the answer; with `ends`, all until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(WAIT_SECONDS):
        sending = asyncio.create_task(_send(writer, sent, ends=ends))
        answer = await (reader.read() if ends else reader.read(KIBIBYTE))
        await sending
        writer.close()
    return answer


async def _send(writer: asyncio.StreamWriter, sent: bytes, *, ends: bool) -> None:
    writer.write(sent)
    await writer.drain()
    if ends:
        writer.write_eof()


def _split_answers(answer: bytes) -> list[bytes]:
    answers = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answers.append(head + b"\r\n\r\n" + rest[:length])
        answer = rest[length:]
    return answers
