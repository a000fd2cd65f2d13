"""What must hold for a request's head by RFC 9110 and RFC 9112 before anybody looks at what it asks for. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable

from app.api.errors import ApiError

HeaderFields = Iterable[tuple[bytes, bytes]]

KNOWN_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"})
"""That are known: others are 501, and these 405 where an address has them not. TRACE no address has."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"([A-Z]+) ([!-\xff]+) HTTP/1\.([01])\r\n")
_ANY_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") [!-\xff]+ HTTP/(\d)\.\d\r\n")
_BEGUN_REQUEST_LINE = re.compile(rb"(?:\r|" + _TOKEN + rb"(?: (?:[!-\xff]+(?: [HTP/.\d]{0,8}\r?)?)?)?)?\Z")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::\d*)?\Z")


def parse_request_line(data: bytes, start: int) -> tuple[bytes, bool]:
    """The method, and whether the version is HTTP/1.1 (else 1.0), of the head that begins at `start`.

    Raises 400, 501 for a method and 505 for a version that there is not.
    """
    line = _REQUEST_LINE.match(data, start)
    if line is not None and line[1] in KNOWN_METHODS:
        return line[1], line[3] == b"1"
    known = _ANY_REQUEST_LINE.match(data, start)
    if known is None:
        raise ApiError(400, "This is no HTTP request")
    if known[2] != b"1" or (line is None and known[1] in KNOWN_METHODS):
        raise ApiError(505, "The version of HTTP is not supported: 1.1 and 1.0 are")
    raise ApiError(501, f"The method {known[1].decode('ascii')[:32]} is not implemented")


def is_possible_head(data: bytes) -> bool:
    """Whether this may be the beginning of a head, so that it is worth waiting for the rest."""
    end = data.find(b"\n") + 1
    return _ANY_REQUEST_LINE.match(data, 0, end) is not None if end else _BEGUN_REQUEST_LINE.match(data) is not None


def is_valid_host(value: bytes) -> bool:
    """Whether a `Host` field may have this value (RFC 9110 section 7.2)."""
    return _HOST.match(value) is not None


def parse_body_length(fields: HeaderFields, *, is_http_1_1: bool) -> int | None:
    """The bytes of the body by `Content-Length`, 0 without it; None for one in chunks. The parser has checked the number.

    Raises 400 for an unclear `Transfer-Encoding`, and 501 for one of other codings than `chunked` alone.
    """
    length = 0
    codings: list[bytes] | None = None
    for name, value in fields:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            codings = [*(codings or ()), *(coding.strip().lower() for coding in value.split(b","))]
    if codings is None:
        return length
    if any(coding.partition(b";")[0].rstrip() != b"chunked" for coding in codings):
        raise ApiError(501, "Transfer-Encoding: only chunked is implemented")
    if codings != [b"chunked"] or not is_http_1_1:
        raise ApiError(400, "The request's Transfer-Encoding is faulty")
    return None
