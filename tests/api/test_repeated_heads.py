"""A request whose head repeats an earlier one of its connection gets the answer that it would get by itself: compared with the parser for random
changes of heads, and with a running service over fresh connections."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable

import httptools
import pytest

from app.api.http.repeated_head import MAX_FIELDS_BYTES, HeaderFields, RepeatedHead
from tests.api.shared_services import SharedServices
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded

ASSET = "0123abcd-0123-4567-89ab-0123456789ab"
PATIENCE = 20.0
OF_THE_MOMENT = re.compile(
    rb'\r\n(?:date|x-correlation-id): [^\r]*|"correlationId": ?"[^"]*"|(?:boundary=|--)[0-9a-f]{32}'
)
ANNOUNCES_A_BODY = re.compile(rb"(?i)content-length *: *[1-9]|transfer-encoding")

PATHS = (
    "/api/assets/{}/original", "/api/assets/{}/thumbnail", "/api/assets/{}/thumbnail?size=preview", "/api/assets/{}/video/playback",
    "/api/assets/{}/original?c=1", "/api/assets/{}/thumbnail?size=thumbnail&c=a%3D", "/api/assets/{}/thumbnail?c=a&size=preview",
    "/api/assets/{}/original?apiKey=x", "/api/assets/{}/original?download=true", "/api/assets/{}/original#f", "/api/assets/{}/Original",
    "/api/assets/{}/../{}/original", "//api/assets/{}/original", "http://here/api/assets/{}/original", "/api/assets/{}",
)  # fmt: skip
RANGES = (
    "Range: bytes=0-9", "range: bytes=5-", "Range: bytes=100-70000", "Range: bytes=-5", "RANGE: bytes=0-9", "Range:bytes=0-9",
    "Range:  bytes=0-9", "Range: bytes=0-9 ", "Range: BYTES=0-9", "Range: bytes=0-1,4-5", "Range: bytes=9-5", "Range: bytes=99999999-",
    "Range: bytes=0-9\r\n more", "Range: bytes=0-9\r\n\t-", "Range: items=0-9", "Range: bytes=00000000000000000000-9", "Range : bytes=0-9",
    "Range: bytes=0-9\r\nRange: bytes=0-3", "X-Range: bytes=0-9", "If-Range: \"x\"\r\nRange: bytes=0-9", "Range: bytes=\u0660-9",
)  # fmt: skip
OTHERS = (
    "Accept: */*", "User-Agent: player/1.0 (x; y)", "Accept-Encoding: identity;q=1, *;q=0", "Cookie: a=b; c=d", "Referer: http://here/",
    "Connection: keep-alive", "Connection: close", "If-None-Match: *", "X-Request-ID: abc", "Content-Length: 0", "Content-Length: 3",
    "Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: h2c", "Host: other", "X-Empty:", "Range-Unit: x", "x-api-key: no",
)  # fmt: skip


def build_head(dice: random.Random, asset: str, key: str, *, is_plain: bool) -> bytes:
    """A head that is likely to be answered from memory, or one with anything that may come."""
    lines = ["Host: here", f"x-api-key: {key}", *(dice.sample(OTHERS[:5], dice.randrange(3)))]
    if not is_plain:
        lines += dice.sample(OTHERS, dice.choice([0, 0, 0, 1, 2]))
    if dice.random() < 0.7:
        lines.insert(dice.randrange(len(lines) + 1), dice.choice(RANGES[:3] if is_plain else RANGES))
    path = dice.choice(PATHS[:1] if is_plain else PATHS).format(asset, asset)
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


def change_head(dice: random.Random, head: bytes, asset: str, key: str) -> bytes:
    """A repetition, as a client sends it, or one that differs from it by little."""
    line, _, fields = head.partition(b"\r\n")
    match dice.randrange(8):
        case 0:
            return build_head(dice, asset, key, is_plain=False)
        case 1:
            at = dice.randrange(len(head))
            return head[:at] + bytes([dice.choice(b"\r\n \t:-0aA\x00\xff")]) + head[at + dice.randrange(2) :]
        case 2:
            at = dice.randrange(len(head))
            return head[:at] + head[at + dice.randrange(1, 30) :]
        case 3:
            return head + head
        case 4:
            more = (
                b"\r\n",
                b"x",
                b"GET / HTTP/1.1\r\n\r\n",
                b" ",
                b"Range: bytes=0-9\r\n",
                b"Range: bytes=0-9\r\n\r\n",
            )
            return head + dice.choice(more)
        case 5:
            method = dice.choice([b"GET", b"HEAD", b"get", b"POST", b"DELETE"])
            return line.replace(b"GET", method) + dice.choice([b"\r\n", b"\n", b".1\r\n"]) + fields
        case _:
            wanted = dice.choice([*RANGES[:3], dice.choice(RANGES)]).encode()
            fields = re.sub(rb"(?i)(^|\r\n)range: [^\r]*", rb"\1" + wanted.replace(b"\\", b""), fields, count=1)
            path = dice.choice([*PATHS[:1] * 3, dice.choice(PATHS)]).format(asset, asset).encode()
            return b"GET " + path + b" HTTP/1.1\r\n" + fields


class ParsedRequest:
    """What httptools tells of the first request in some bytes. `fields` is None if there is no complete head of a GET without a body."""

    def __init__(self, data: bytes) -> None:
        self.url = b""
        self.headers: HeaderFields = []
        self.is_complete = False
        self.messages = 0
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_complete = False
        else:
            self.is_complete = (
                self.messages == 1 and parser.get_method() == b"GET" and parser.get_http_version() == "1.1"
            )
            self.is_complete &= parser.should_keep_alive() and data.endswith(b"\r\n\r\n")

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        self.messages += 1


def test_what_is_recognised_is_what_the_parser_finds(seed: int, *, soak: bool) -> None:
    dice = random.Random(seed)
    recognised = 0
    for _ in range(1_000_000 if soak else 5_000):
        is_plain = dice.random() < 0.5
        head = build_head(dice, ASSET, "secret", is_plain=is_plain)
        first = ParsedRequest(head)
        repeated = RepeatedHead.remember(head, first.headers) if first.is_complete else None
        assert not (is_plain and repeated is None), head
        if repeated is None:
            continue
        data = change_head(dice, head, ASSET, "secret")
        found = repeated.match(data)
        if found is None:
            continue
        recognised += 1
        parsed = ParsedRequest(data)
        assert parsed.is_complete, data
        path, query, headers = found
        assert parsed.url == path.encode() + (b"?" + query if query else b""), data
        assert sorted(parsed.headers) == sorted(headers), data
        assert [field for field in parsed.headers if field[0] != b"range"] == headers[
            : len(headers) - has_range(headers)
        ]
    assert recognised > 100, "most repetitions are recognised"


def has_range(headers: HeaderFields) -> bool:
    return any(name == b"range" for name, _ in headers)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/assets HTTP/1.1\r\nHost: here\r\n\r\n",
        f"GET /api/assets/{ASSET}/original?apiKey=x HTTP/1.1\r\nHost: here\r\n\r\n".encode(),
        f"GET /api/assets/{ASSET}/original HTTP/1.0\r\nHost: here\r\n\r\n".encode(),
        f"GET /api/assets/{ASSET}/original HTTP/1.1\r\nHost: here\r\nRANGE: bytes=0-9\r\n\r\n".encode(),
        f"GET /api/assets/{ASSET}/original HTTP/1.1\r\nHost: here\r\nRange: bytes=0-9\r\nRange: bytes=0-9\r\n\r\n".encode(),
        f"GET /api/assets/{ASSET}/original HTTP/1.1\r\nHost: here\r\nX: {'x' * MAX_FIELDS_BYTES}\r\n\r\n".encode(),
    ],
    ids=["another route", "a key in the query", "HTTP/1.0", "an odd range", "two ranges", "long"],
)
def test_what_is_not_plain_is_not_remembered(head: bytes) -> None:
    assert RepeatedHead.remember(head, ParsedRequest(head).headers) is None


def test_answers_are_those_of_a_fresh_connection(shared_services: SharedServices, seed: int, *, soak: bool) -> None:
    service = shared_services.get("local")
    owner, stranger = service.people.add(), service.people.add()
    with service.client(owner) as client:
        assets = [uploaded(client, fresh_bytes(size), "film.mp4") for size in (80_000, 3_000)]
        for asset in assets:
            assert client.get(f"/api/assets/{asset}/original", headers={"range": "bytes=0-9"}).status_code == 206
    dice = random.Random(seed)
    answered = 0
    for _ in range(20_000 if soak else 150):
        head = build_head(dice, assets[0], owner.key, is_plain=True)
        changed = change_head(
            dice, head, dice.choice([*assets, ASSET]), dice.choice([owner.key, owner.key, stranger.key, "wrong"])
        )
        if ANNOUNCES_A_BODY.search(changed):
            continue  # whether the handler answers before the body ends is a matter of time
        alone = exchange(service, [changed])[0]
        *_, after_others = exchange(service, [head, head, changed])
        assert after_others == alone, changed
        answered += alone.startswith(b"HTTP/1.1 20")
    assert answered > 10


def exchange(service: Service, requests: list[bytes]) -> list[bytes]:
    """Send each request after the answer to the one before; close the sending side with the last one. The answers, without what differs each
    time; the last one is all up to the end."""
    answers: list[bytes] = []
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as connection:
        for request in requests[:-1]:
            connection.sendall(request)
            answers.append(_read(connection, _is_whole))
        connection.sendall(requests[-1])
        connection.shutdown(socket.SHUT_WR)
        answers.append(_read(connection, lambda _: False))
    return [OF_THE_MOMENT.sub(b"", answer) for answer in answers]


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def _read(connection: socket.socket, is_enough: Callable[[bytes], bool]) -> bytes:
    received = b""
    while not is_enough(received):
        try:
            piece = connection.recv(1024 * 1024)
        except ConnectionError:
            break
        if not piece:
            break
        received += piece
    return received
