"""A strict, slow reference parser of HTTP/1.1 requests (RFC 9112): determines the responses that a server must give to a byte stream."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE")
MAX_NUMBER = 2**64 - 1
MAX_IGNORED_BODY_BYTES = 64 * 1024
"""The server skips a body up to this length if it answered the request at the end of its head."""
MAX_HEAD_BYTES = MAX_LINE_BYTES = 64 * 1024
"""Bounds a head, a chunk-size line, and all trailers together; the server may refuse longer ones with 431."""
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"


@dataclass(frozen=True, slots=True)
class Request:
    method: bytes
    target: bytes
    body: bytes


AtHead = Callable[[bytes], bool]
"""Whether the server answers requests for this target at the end of the head, before their body arrives."""


@dataclass(slots=True)
class ParsedStream:
    """`requests`: the requests that must be answered, in order. After them comes one refusal with a status of `refusals` (with `silent`:
    or none), or the connection ends. Not `certain`: the server may choose what follows. `expectations`: the number of `100 Continue`
    responses that may come in between."""

    requests: list[Request] = field(default_factory=list)
    expectations: int = 0
    refusals: frozenset[int] = frozenset()
    silent: bool = True
    certain: bool = True


class BadRequest(Exception):
    def __init__(self, *statuses: int) -> None:
        self.statuses = frozenset(statuses)


class IncompleteRequest(Exception):
    """The stream ends inside a message."""

    def __init__(self, *, in_body: bool) -> None:
        self.in_body = in_body


class UndefinedBehaviour(Exception):
    """RFC 9112 leaves the response to the server."""


def parse_stream(stream: bytes, at_head: AtHead = lambda _: False) -> ParsedStream:
    """The expected responses to the whole stream, after which the client closes its side."""
    reading = ParsedStream()
    position = 0
    while True:
        while stream.startswith(b"\r\n", position):
            position += 2
        if position >= len(stream):
            return reading
        try:
            head, position = _head(stream, position)
            reading.expectations += head.expects
            if head.keeps and not head.expects and at_head(head.target) and head.has_body_up_to(MAX_IGNORED_BODY_BYTES):
                body, position = b"", position + (head.length or 0)
            else:
                body, position = _body(stream, position, head.length)
        except BadRequest as refused:
            reading.refusals, reading.silent = refused.statuses, False
            if len(stream) - position > MAX_LINE_BYTES:  # a line that is too long may be found first
                reading.refusals |= {431}
            return reading
        except IncompleteRequest as unfinished:
            reading.refusals = frozenset({400, 501, 505})
            reading.silent = not unfinished.in_body
            return reading
        except UndefinedBehaviour:
            reading.certain = False
            return reading
        reading.requests.append(Request(head.method, head.target, body))
        if not head.keeps:
            return reading


@dataclass(frozen=True, slots=True)
class _Head:
    """`length`: bytes of the body; None for chunked transfer coding."""

    method: bytes
    target: bytes
    length: int | None
    keeps: bool
    expects: bool

    def has_body_up_to(self, size: int) -> bool:
        return self.length is not None and self.length <= size


def _head(stream: bytes, start: int) -> tuple[_Head, int]:
    end = stream.find(b"\r\n\r\n", start)
    if (len(stream) if end < 0 else end + 4) - start > MAX_HEAD_BYTES:
        raise BadRequest(400, 431)
    if end < 0:
        raise IncompleteRequest(in_body=False)
    line, *lines = stream[start : end + 2].split(b"\r\n")[:-1]
    method, target, minor = _request_line(line)
    fields = [_field(each) for each in lines]
    length = _length(fields, minor)
    _host(fields, minor)
    if not re.fullmatch(rb"/[0-9A-Za-z/_.~-]*(?:\?[0-9A-Za-z=&]+)?", target):
        raise UndefinedBehaviour
    connection = [
        token.strip().lower() for name, value in fields if name == b"connection" for token in value.split(b",")
    ]
    if any(not re.fullmatch(TOKEN, token) for token in connection):
        raise UndefinedBehaviour
    keeps = minor == b"1" and b"close" not in connection
    return _Head(method, target, length, keeps, _expects(fields, minor)), end + 4


def _expects(fields: list[tuple[bytes, bytes]], minor: bytes) -> bool:
    """Whether the client waits for `100 Continue` (RFC 9110 section 10.1.1)."""
    expected = [value.lower() for name, value in fields if name == b"expect"]
    if minor == b"0":
        return False
    if any(each != b"100-continue" for each in expected):
        raise UndefinedBehaviour
    return bool(expected)


def _body(stream: bytes, position: int, length: int | None) -> tuple[bytes, int]:
    if length is None:
        return _chunks(stream, position)
    body = stream[position : position + length]
    if len(body) < length:
        raise IncompleteRequest(in_body=True)
    return body, position + length


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    parts = re.fullmatch(rb"(%b) ([!-\xff]+) HTTP/([0-9])\.([0-9])" % TOKEN, line)
    if parts is None:
        raise BadRequest(400)
    method, target, major, minor = parts.groups()
    wrong = set()
    if (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        wrong.add(505)
    if method not in METHODS:
        wrong.add(501)
    if wrong:
        raise BadRequest(*wrong)
    return method, target, minor


def _field(line: bytes) -> tuple[bytes, bytes]:
    parts = re.fullmatch(rb"(%b):([\t -~\x80-\xff]*)" % TOKEN, line)
    if parts is None:
        raise BadRequest(400)
    return parts[1].lower(), parts[2].strip(b" \t")


def _host(fields: list[tuple[bytes, bytes]], minor: bytes) -> None:
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and minor == b"1"):
        raise BadRequest(400)
    for host in hosts:
        if not re.fullmatch(rb"(?:\[[0-9a-fA-F:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]*)(?::[0-9]*)?", host):
            raise BadRequest(400)


def _length(fields: list[tuple[bytes, bytes]], minor: bytes) -> int | None:
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if any(not re.fullmatch(rb"[0-9]+", each) or int(each) > MAX_NUMBER for each in lengths) or len(lengths) > 1:
        raise BadRequest(400, 501)
    if not codings:
        return int(lengths[0]) if lengths else 0
    if lengths or minor == b"0":
        raise BadRequest(400, 501)
    if [each.lower() for each in codings] == [b"chunked"]:
        return None
    raise BadRequest(400, 501)


def _chunks(stream: bytes, position: int) -> tuple[bytes, int]:
    body = bytearray()
    while True:
        line, position = _line(stream, position)
        parts = re.fullmatch(rb"([0-9A-Fa-f]+)(;.*)?", line, re.DOTALL)
        if parts is None:
            raise BadRequest(400)
        if parts[2] and not re.fullmatch(rb"(?:;%b(?:=%b)?)+" % (TOKEN, TOKEN), parts[2]):
            raise UndefinedBehaviour
        size = int(parts[1], 16)
        if size > MAX_NUMBER:
            raise BadRequest(400)
        if not size:
            return bytes(body), _trailers(stream, position)
        data = stream[position : position + size]
        body += data
        position += size
        if len(data) < size:
            raise IncompleteRequest(in_body=True)
        if not b"\r\n".startswith(stream[position : position + 2]):
            raise BadRequest(400)
        if position + 2 > len(stream):
            raise IncompleteRequest(in_body=True)
        position += 2


def _trailers(stream: bytes, position: int) -> int:
    start = position
    while True:
        line, position = _line(stream, position, start)
        if not line:
            return position
        name, _ = _field(line)
        if name in (b"content-length", b"transfer-encoding", b"connection", b"upgrade"):
            raise UndefinedBehaviour


def _line(stream: bytes, position: int, start: int | None = None) -> tuple[bytes, int]:
    """Up to its CRLF. What can not become a line any more is refused, whether its end has come or not; and what is too long, counted from
    `start`, if given."""
    end = stream.find(b"\r\n", position)
    if (len(stream) if end < 0 else end + 2) - (position if start is None else start) > MAX_LINE_BYTES:
        raise BadRequest(400, 431)
    if end < 0:
        if re.search(rb"\r.|\n|\x00", stream[position:], re.DOTALL):
            raise BadRequest(400)
        raise IncompleteRequest(in_body=True)
    return stream[position:end], end + 2
