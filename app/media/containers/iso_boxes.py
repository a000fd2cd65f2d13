"""Reads the top-level boxes of an ISO base media file (ISO/IEC 14496-12 section 4.2): MP4, MOV, HEIF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAX_BOXES = 100_000


@dataclass(frozen=True, slots=True)
class IsoBox:
    """`start` is the offset of the header, `offset` that of the content. `length` is the content's length in bytes by the header; it may reach
    beyond the end of the file."""

    kind: bytes
    start: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def read_top_level_boxes(file: BinaryIO, size: int, start: int = 0) -> Iterator[IsoBox]:
    """Yield the boxes in order, from the offset `start`; `size` is the file's in bytes. Stops at the first header that is no box header."""
    offset = start
    for _ in range(_MAX_BOXES):
        if offset >= size:
            return  # a file system refuses to seek far beyond the end
        file.seek(offset)
        header = file.read(min(16, size - offset))
        if len(header) < 8:
            return
        length, kind, header_size = int.from_bytes(header[:4], "big"), header[4:8], 8
        if length == 1 and len(header) == 16:
            length, header_size = int.from_bytes(header[8:], "big"), 16
        elif length == 0:
            length = size - offset
        if length < header_size or not kind.isascii():
            return
        yield IsoBox(kind, offset, offset + header_size, length - header_size)
        offset += length
