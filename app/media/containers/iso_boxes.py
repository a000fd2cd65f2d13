"""The outermost boxes of an ISO base media file (ISO/IEC 14496-12 section 4.2): MP4, MOV, HEIF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAX_BOXES = 100_000


@dataclass(frozen=True, slots=True)
class IsoBox:
    """`offset` is where its content begins, `length` the content's bytes as the box says, also beyond the end of the file."""

    kind: bytes
    offset: int
    length: int


def read_top_level_boxes(file: BinaryIO, size: int) -> Iterator[IsoBox]:
    """In order, of a file of `size` bytes; ends where what follows is no box."""
    at = 0
    for _ in range(_MAX_BOXES):
        file.seek(at)
        header = file.read(16)
        if len(header) < 8:
            return
        length, kind, head = int.from_bytes(header[:4], "big"), header[4:8], 8
        if length == 1 and len(header) == 16:
            length, head = int.from_bytes(header[8:], "big"), 16
        elif length == 0:
            length = size - at
        if length < head or not kind.isascii():
            return
        yield IsoBox(kind, at + head, length - head)
        at += length
