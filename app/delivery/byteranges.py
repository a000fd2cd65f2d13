"""Computes the boundaries, part headers and length of a `multipart/byteranges` body (RFC 9110 section 14.6) before it is sent. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from app.storage.ranges import ByteRange


@dataclass(frozen=True, slots=True)
class ByterangesLayout:
    """`parts`: each range with the boundary and part header before it; `closing_boundary`: the bytes after the last range; `length`: bytes
    of the whole body."""

    content_type: bytes
    parts: tuple[tuple[bytes, ByteRange], ...]
    closing_boundary: bytes
    length: int


def lay_out_byteranges(
    ranges: Sequence[ByteRange], size: int, content_type: bytes, boundary: str | None = None
) -> ByterangesLayout:
    """The layout for `ranges` (clamped) of a file of `size` bytes. The boundary is random, so that no stored file can contain it."""
    delimiter = (boundary or secrets.token_hex(16)).encode("ascii")
    parts = tuple(
        (
            b"%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
            % (b"\r\n" if index else b"", delimiter, content_type, item.first, item.first + item.length - 1, size),
            item,
        )
        for index, item in enumerate(ranges)
    )
    end = b"\r\n--%s--\r\n" % delimiter
    length = sum(len(head) + item.length for head, item in parts) + len(end)
    return ByterangesLayout(b"multipart/byteranges; boundary=" + delimiter, parts, end, length)
