"""Mutated requests, many on a connection, in random pieces over real sockets: as many answers as the reference parser of the tests
finds requests, with the same bodies, and never another one."""

from __future__ import annotations

import asyncio
import random
import re

import uvloop

from tests.api.echoing import echo, echoed, serving
from tests.api.reference_framing import Reading, read
from tests.real.notes import Note

SHORT = 4_000
LONG = 1_000_000
CONNECTIONS = 24
WAIT_SECONDS = 60.0
SPECIAL = b'\r\n\r\n \t:;,=\x00\x7f\x80\xff0123459aFxX/?#%"\\-'
WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n\n", b"\r", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n", b"Connection: close\r\n", b"0\r\n\r\n", b"Host: y\r\n", b" HTTP/1.1\r\n",
    b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", b"chunked", b"HTTP/1.0", b"HTTP/2.0", b", ", b"\x0b", b"gzip, ",
)  # fmt: skip


def some_request(chance: random.Random) -> bytes:
    target = b"/" + b"".join(chance.choices([b"a", b"b", b"/", b"7"], k=chance.randrange(5)))
    fields = [b"Host: x"]
    if chance.random() < 0.4:
        fields += [chance.choice([b"Upgrade: h2c", b"Upgrade: websocket", b"upgrade: x/1, y"]), b"Connection: Upgrade"]
    if chance.random() < 0.1:
        fields.append(chance.choice([b"Connection: close", b"Connection: keep-alive"]))
    if chance.random() < 0.3:
        fields.append(b"X-Filler: " + b"f" * chance.randrange(60))
    body, sent = chance.choice([b"", b"abc", b"\r\n\r\n", b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", b"z" * 300]), b""
    kind = chance.choice(["none", "length", "chunked"])
    if kind == "length":
        fields.append(b"Content-Length: %d" % len(body))
        sent = body
    elif kind == "chunked":
        fields.append(b"Transfer-Encoding: chunked")
        extension = chance.choice([b"", b"", b";a=b", b";q"])
        while body:
            size = chance.randrange(1, len(body) + 1)
            sent += b"%x%b\r\n%b\r\n" % (size, extension, body[:size])
            body = body[size:]
        sent += b"0\r\n" + chance.choice([b"", b"", b"X-Trailer: t\r\n"]) + b"\r\n"
    chance.shuffle(fields)
    method = chance.choice([b"GET", b"POST", b"PUT", b"DELETE"])
    version = b"1.0" if chance.random() < 0.03 else b"1.1"
    return b"%b %b HTTP/%b\r\n%b\r\n\r\n%b" % (method, target, version, b"\r\n".join(fields), sent)


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


async def answers_to(port: int, sent: list[bytes]) -> list[tuple[int, bytes]]:
    """Status and body of each answer until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        for piece in sent:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        received = await reader.read(-1)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return split_answers(received)


def split_answers(received: bytes) -> list[tuple[int, bytes]]:
    answers: list[tuple[int, bytes]] = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None, received
        answers.append((int(head.split(b" ", 2)[1]), rest[: int(length[1])]))
        received = rest[int(length[1]) :]
    return answers


def assert_as_read(reading: Reading, answers: list[tuple[int, bytes]], stream: bytes) -> None:
    wanted = [(200, echoed(each.method, each.target, each.body)) for each in reading.requests]
    assert answers[: len(wanted)] == wanted, stream
    if not reading.certain:
        return
    rest = [status for status, _ in answers[len(wanted) :]]
    assert len(rest) == 1 or (reading.silent and not rest), (rest, reading, stream)
    assert set(rest) <= reading.refusals, (rest, reading, stream)


async def fuzz(seed: int, requests: int) -> dict[str, int]:
    counted = {"requests": 0, "answered": 0, "refused": 0, "left open": 0}

    async def one_client(chance: random.Random, port: int) -> None:
        while counted["requests"] < requests:
            number = chance.randrange(1, 5)
            counted["requests"] += number
            stream = b"".join(some_request(chance) for _ in range(number))
            for _ in range(chance.choice([0, 1, 1, 2, 3])):
                stream = mutated(stream, chance)
            reading = read(stream)
            async with asyncio.timeout(WAIT_SECONDS):
                answers = await answers_to(port, pieces(stream, chance))
            assert_as_read(reading, answers, stream)
            counted["answered"] += len(reading.requests)
            counted["refused"] += bool(reading.refusals) and not reading.silent
            counted["left open"] += not reading.certain

    async with serving(echo) as port, asyncio.TaskGroup() as clients:
        for number in range(CONNECTIONS):
            clients.create_task(one_client(random.Random(f"{seed}-{number}"), port))
    return counted


def test_mutated_requests_are_framed_as_the_reference_does(seed: int, note: Note, *, soak: bool) -> None:
    """On uvloop, as the service runs."""
    counted = uvloop.run(fuzz(seed, LONG if soak else SHORT))

    note(f"framing, seed {seed}: {counted}")
    assert counted["answered"] > counted["requests"] / 5
    assert counted["left open"] < counted["requests"] / 10
