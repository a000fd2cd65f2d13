"""Fuzzes the framing: mutated pipelined requests in random pieces over real sockets get exactly the responses that the reference parser
expects."""

from __future__ import annotations

import asyncio
import random
import re
from asyncio import Transport
from dataclasses import dataclass, replace

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from app.api.http.protocol import HttpProtocol
from tests.api.echo_server import FROM_MEMORY_PREFIX, echo, echo_body, run_server, wrap_in_application
from tests.api.reference_framing import ParsedStream, parse_stream
from tests.real.notes import Note

SHORT = 4_000
LONG = 1_000_000
CONNECTIONS = 24
WAIT_SECONDS = 60.0
LARGE = 64 * 1024
MANY_CHUNKS = (4_100, 6_000)
"""More chunks than `BodyFraming` consumes in one call."""
OFTEN_LARGE, OFTEN_MANY = 0.004, 0.003
READ_BYTES = 256 * 1024
SHOWN_BYTES = 4_000
WRITE_BUFFER_BYTES = 4 * 1024 * 1024
SPECIAL = b'\r\n\r\n \t:;,=\x00\x7f\x80\xff0123459aFxX/?#%"\\-'
WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n\n", b"\r", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n", b"Connection: close\r\n", b"0\r\n\r\n", b"Host: y\r\n", b" HTTP/1.1\r\n",
    b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", b"chunked", b"HTTP/1.0", b"Expect: 100-continue\r\n", b"HTTP/2.0", b", ", b"\x0b", b"gzip, ",
)  # fmt: skip
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"


def some_request(chance: random.Random) -> bytes:
    target = b"/" + b"".join(chance.choices([b"a", b"b", b"/", b"7"], k=chance.randrange(5)))
    fields = [b"Host: x"]
    if chance.random() < 0.4:
        fields += [chance.choice([b"Upgrade: h2c", b"Upgrade: websocket", b"upgrade: x/1, y"]), b"Connection: Upgrade"]
    if chance.random() < 0.1:
        fields.append(chance.choice([b"Connection: close", b"Connection: keep-alive"]))
    if chance.random() < 0.3:
        fields.append(b"X-Filler: " + b"f" * chance.randrange(60))
    if chance.random() < 0.1:
        fields.append(b"Expect: 100-continue")
    framing, sent = some_body(chance)
    fields += framing
    chance.shuffle(fields)
    method = chance.choice([b"GET", b"POST", b"PUT", b"DELETE"])
    version = b"1.0" if chance.random() < 0.03 else b"1.1"
    return b"%b %b HTTP/%b\r\n%b\r\n\r\n%b" % (method, target, version, b"\r\n".join(fields), sent)


def some_body(chance: random.Random) -> tuple[list[bytes], bytes]:
    """Header fields that frame a body, and the bytes of the body."""
    kind = chance.choice(["none", "length", "chunked"])
    if kind == "none":
        return [], b""
    body = chance.choice([b"", b"abc", b"\r\n\r\n", HIDDEN, b"z" * 300])
    sizes: list[int] = []
    dice = chance.random()
    if dice < OFTEN_LARGE:
        size = chance.choice([LARGE - 1, LARGE, LARGE + 1, chance.randrange(LARGE)])
        body = (chance.choice([HIDDEN, b"z", b"0\r\n\r\n"]) * size)[:size]
    elif kind == "chunked" and dice < OFTEN_LARGE + OFTEN_MANY:
        sizes = chance.choices(range(1, chance.choice([4, 18])), k=chance.randrange(*MANY_CHUNKS))
        body = (HIDDEN * sum(sizes))[: sum(sizes)]
    if kind == "length":
        return [b"Content-Length: %d" % len(body)], body
    left = len(body)
    while left and sum(sizes) < len(body):
        sizes.append(chance.randrange(1, left + 1))
        left -= sizes[-1]
    extension = chance.choice([b"", b"", b";a=b", b";q"])
    chunks, start = [], 0
    for size in sizes:
        chunks.append(b"%x%b\r\n%b\r\n" % (size, extension, body[start : start + size]))
        start += size
    trailers = chance.choice([b"", b"", b"X-Trailer: t\r\n"])
    return [b"Transfer-Encoding: chunked"], b"%b0\r\n%b\r\n" % (b"".join(chunks), trailers)


def mutated(stream: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(stream) + 1)
    until = min(len(stream), at + chance.choice([1, 1, 2, 5, 30]))
    kind = chance.randrange(5)
    if kind == 0:
        return stream[:at] + bytes([chance.choice(SPECIAL)]) + stream[at + 1 :]
    if kind == 1:
        return stream[:at] + stream[until:]
    if kind == 2:
        return stream[:at] + chance.choice(WORDS) + stream[at:]
    if kind == 3:
        return stream[:until] + stream[at:]
    lines = stream.split(b"\r\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def pieces(stream: bytes, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.choice([0, 1, 2, 6, 20])))
    ends = [*cuts, len(stream)]
    return [stream[start:end] for start, end in zip([0, *cuts], ends, strict=True) if end > start]


@dataclass(frozen=True, slots=True)
class Answers:
    """Status and body of each final response, the number of `100 Continue` responses, and the error that ended the connection, if any."""

    final: list[tuple[int, bytes]]
    continues: int
    cut: ConnectionError | None = None


class UnpausedProtocol(HttpProtocol):
    """A client that reads too slowly is not answered at once: here all read fast enough, so that it is known who is."""

    def connection_made(self, transport: Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)


async def answers_to(port: int, sent: list[bytes]) -> Answers:
    """All until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    cut = None
    try:
        for piece in sent:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        while data := await reader.read(READ_BYTES):
            received += data
    except ConnectionError as error:
        cut = error
    finally:
        writer.transport.abort()
    return replace(split_answers(bytes(received)), cut=cut)


def split_answers(received: bytes) -> Answers:
    final: list[tuple[int, bytes]] = []
    continues = 0
    position = 0
    while position < len(received):
        end = received.index(b"\r\n\r\n", position) + 4
        head = received[position:end]
        status = int(head.split(b" ", 2)[1])
        position = end
        if status == 100:
            continues += 1
            continue
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None, head
        position += int(length[1])
        final.append((status, received[end:position]))
    return Answers(final, continues)


def assert_as_read(reading: ParsedStream, answers: Answers) -> None:
    wanted = [(200, echo_body(each.method, each.target, each.body)) for each in reading.requests]
    assert answers.final[: len(wanted)] == wanted, answers.cut
    if not reading.certain:
        return
    rest = [status for status, _ in answers.final[len(wanted) :]]
    assert len(rest) == 1 or (reading.silent and not rest), rest
    assert set(rest) <= reading.refusals, rest
    assert answers.continues <= reading.expectations


async def fuzz(seed: int, requests: int) -> dict[str, int]:
    counted = {"requests": 0, "answered": 0, "refused": 0, "left open": 0, "continued": 0}
    failures: list[Exception] = []

    async def one_stream(stream: bytes, sent: list[bytes], port: int) -> None:
        reading = parse_stream(stream, at_head=lambda target: target.startswith(FROM_MEMORY_PREFIX))
        async with asyncio.timeout(WAIT_SECONDS):
            answers = await answers_to(port, sent)
        assert_as_read(reading, answers)
        counted["answered"] += len(reading.requests)
        counted["refused"] += bool(reading.refusals) and not reading.silent
        counted["left open"] += not reading.certain
        counted["continued"] += answers.continues

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await echo(scope, receive, send)
        except Exception as error:
            failures.append(error)
            raise

    async def one_client(client: int, port: int) -> None:
        chance = random.Random(f"{seed}-{client}")
        streams = 0
        while counted["requests"] < requests:
            number = chance.randrange(1, 5)
            counted["requests"] += number
            stream = b"".join(some_request(chance) for _ in range(number))
            for _ in range(chance.choice([0, 1, 1, 2, 3])):
                stream = mutated(stream, chance)
            sent = pieces(stream, chance)
            streams += 1
            try:
                await one_stream(stream, sent, port)
            except (AssertionError, TimeoutError, ValueError) as error:
                cuts = [len(piece) for piece in sent]
                shown = stream if len(stream) <= SHOWN_BYTES else stream[:SHOWN_BYTES] + b"..."
                where = f"seed {seed}, client {client}, stream {streams} in pieces of {cuts}"
                raise AssertionError(f"{where}: {shown}") from error

    async with run_server(wrap_in_application(application), UnpausedProtocol) as port, asyncio.TaskGroup() as clients:
        for number in range(CONNECTIONS):
            clients.create_task(one_client(number, port))
    assert not failures, (seed, failures)
    return counted


@pytest.mark.usefixtures("exclusive_network")
def test_mutated_requests_are_framed_as_the_reference_does(seed: int, note: Note, *, soak: bool) -> None:
    """On uvloop, as the service runs."""
    try:
        counted = uvloop.run(fuzz(seed, LONG if soak else SHORT))
    except BaseException:
        note(f"framing, seed {seed}: failed")
        raise

    note(f"framing, seed {seed}: {counted}")
    assert counted["answered"] > counted["requests"] / 5, seed
    assert counted["left open"] < counted["requests"] / 10, seed
    assert counted["continued"] > counted["requests"] / 100, seed
