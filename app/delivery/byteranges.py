"""The frame of a `multipart/byteranges` body (RFC 9110 section 14.6), laid out before a byte is sent. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from app.storage.ranges import ByteRange


@dataclass(frozen=True, slots=True)
class ByterangesLayout:
    """`parts`: the bytes before each range's own; `closing_boundary`: those after the last. `length`: of the whole body, in bytes."""

    content_type: bytes
    parts: tuple[tuple[bytes, ByteRange], ...]
    closing_boundary: bytes
    length: int


def lay_out_byteranges(
    ranges: Sequence[ByteRange], size: int, content_type: bytes, boundary: str | None = None
) -> ByterangesLayout:
    """Frame `ranges` (clamped) of `size` bytes. The boundary is random, so that no stored file can hold it."""
    mark = (boundary or secrets.token_hex(16)).encode("ascii")
    parts = tuple(
        (
            b"%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
            % (b"\r\n" if index else b"", mark, content_type, item.first, item.first + item.length - 1, size),
            item,
        )
        for index, item in enumerate(ranges)
    )
    end = b"\r\n--%s--\r\n" % mark
    length = sum(len(head) + item.length for head, item in parts) + len(end)
    return ByterangesLayout(b"multipart/byteranges; boundary=" + mark, parts, end, length)
