"""Validates the head of a request by RFC 9110 and RFC 9112: request line, `Host`, and the fields that frame the body. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable

from app.api.errors import ApiError

HeaderFields = Iterable[tuple[bytes, bytes]]

KNOWN_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"})
"""Other methods get a 501. These get a 405 if the URL does not support them; no URL supports TRACE."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"([A-Z]+) ([!-\xff]+) HTTP/1\.([01])\r\n")
_ANY_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") [!-\xff]+ HTTP/(\d)\.\d\r\n")
_BEGUN_REQUEST_LINE = re.compile(rb"(?:\r|" + _TOKEN + rb"(?: (?:[!-\xff]+(?: [HTP/.\d]{0,8}\r?)?)?)?)?\Z")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::\d*)?\Z")


def parse_request_line(data: bytes, start: int) -> tuple[bytes, bool]:
    """The method of the head at offset `start`, and whether its version is HTTP/1.1 (otherwise 1.0).

    Raises `ApiError`: 400 for a malformed line, 501 for an unknown method, 505 for another version.
    """
    line = _REQUEST_LINE.match(data, start)
    if line is not None and line[1] in KNOWN_METHODS:
        return line[1], line[3] == b"1"
    any_line = _ANY_REQUEST_LINE.match(data, start)
    if any_line is None:
        raise ApiError(400, "This is no HTTP request")
    if any_line[2] != b"1" or (line is None and any_line[1] in KNOWN_METHODS):
        raise ApiError(505, "The version of HTTP is not supported: 1.1 and 1.0 are")
    raise ApiError(501, f"The method {any_line[1].decode('ascii')[:32]} is not implemented")


def is_possible_head(data: bytes) -> bool:
    """Whether `data` may be the beginning of a head; if not, the connection is refused without waiting for more bytes."""
    end = data.find(b"\n") + 1
    return _ANY_REQUEST_LINE.match(data, 0, end) is not None if end else _BEGUN_REQUEST_LINE.match(data) is not None


def is_valid_host(value: bytes) -> bool:
    """Whether a `Host` field may have this value (RFC 9110 section 7.2)."""
    return _HOST.match(value) is not None


def parse_body_length(fields: HeaderFields, *, is_http_1_1: bool) -> int | None:
    """The body's length in bytes by `Content-Length`, 0 without that field; None for chunked transfer coding.

    The parser has validated the number. Raises `ApiError`: 400 for a faulty `Transfer-Encoding`, 501 for a coding other than `chunked`.
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
