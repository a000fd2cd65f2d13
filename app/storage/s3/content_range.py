"""Compares the headers of a GET response with the requested range. Pure: no I/O.

Stores answer a range request with 206 and that range; with 200, a `Content-Range` and that range; with the whole object; or with a larger
range. Surplus bytes are cut off. A response that contradicts itself is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.storage.backend import ObjectInfo
from app.storage.errors import RangeNotSatisfiable
from app.storage.ranges import ByteRange
from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused
from app.storage.s3.protocol.responses import UNKNOWN_DATE, make_etag, parse_http_date

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class SizeUnknown(Exception):
    """The headers do not tell the size of the object reliably: the caller has to ask for it."""


@dataclass(frozen=True, slots=True)
class RangeContent:
    """The content of a response. `served` is the requested part of the object, None where it has no bytes. The first `skip_bytes` bytes of
    the body come before it; with `has_surplus` more bytes follow it."""

    info: ObjectInfo
    served: ByteRange | None
    skip_bytes: int
    has_surplus: bool


def check_content_range(
    key: str,
    status: int,
    headers: Mapping[str, str],
    length: int | None,
    requested: ByteRange | None,
    size: int | None = None,
) -> RangeContent:
    """`status` is 200 or 206, `length` the body's Content-Length in bytes, `size` the object's, where it is known.

    Raises `SizeUnknown`, `RangeNotSatisfiable`, and `S3RequestRefused` where the response contradicts itself.
    """
    first, last, total = _parse_carried_range(key, status, headers, length, requested, size)
    served = _clamp_requested(key, requested, total)
    if served is None:
        skip, surplus = 0, False
    elif not first <= served.first <= last:
        raise S3RequestRefused(key, BACKEND, "get: another range than the one asked for")
    elif requested is None and last < served.first + served.length - 1:
        raise S3RequestRefused(key, BACKEND, "get: a part of the object where all of it was asked for")
    else:
        skip, surplus = served.first - first, last >= served.first + served.length
    modified = parse_http_date(headers.get("Last-Modified"))
    info = ObjectInfo(key, total, modified or UNKNOWN_DATE, make_etag(headers.get("ETag"), modified, total))
    return RangeContent(info, served, skip, surplus)


def _parse_carried_range(
    key: str, status: int, headers: Mapping[str, str], length: int | None, requested: ByteRange | None, size: int | None
) -> tuple[int, int, int]:
    """First and last byte of the object in the body (-1 as the last where it has none), and the object's size."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None:
        if status == 206:
            raise S3RequestRefused(key, BACKEND, "get: a partial answer that does not say which part")
        total = _whole_object_size(key, length, requested, size)
        return 0, total - 1, total
    first, last = int(match[1]), int(match[2])
    if match[3] == "*" and size is None:
        raise SizeUnknown
    total = size if match[3] == "*" and size is not None else int(match[3])
    if not first <= last < total or (length is not None and length != last - first + 1):
        raise S3RequestRefused(key, BACKEND, "get: a Content-Range that contradicts the answer")
    return first, last, total


def _whole_object_size(key: str, length: int | None, requested: ByteRange | None, size: int | None) -> int:
    """The object's size, for a body without `Content-Range` that should be the whole object. A body as long as the requested range may be
    that range instead: then `size` decides."""
    if length is not None and (
        requested is None or (requested.first == 0 and (requested.last is None or length <= requested.last))
    ):
        return length
    if size is None:
        raise SizeUnknown
    if length is not None and length != size:
        raise S3RequestRefused(key, BACKEND, f"get: {length} bytes without Content-Range, of an object of {size}")
    return size


def _clamp_requested(key: str, requested: ByteRange | None, total: int) -> ByteRange | None:
    if requested is None:
        return ByteRange(0, total - 1) if total else None
    served = requested.clamp(total)
    if served is None:
        raise RangeNotSatisfiable(key, BACKEND, total)
    return served
