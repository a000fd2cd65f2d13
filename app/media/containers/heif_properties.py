"""Reads the `meta` box of HEIF and AVIF files and the properties of their primary picture (ISO/IEC 14496-12 section 8.11, ISO/IEC 23008-12
section 9.3): what transforms it, and its colour space. Decodes no picture."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app.media.containers.iso_boxes import read_top_level_boxes

_MAX_META_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 65_536

MetaBoxes = dict[bytes, bytes]
"""Content by kind."""


class FieldReader:
    """Reads big-endian numbers one after the other. Raises `IndexError` at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int) -> int:
        end = self._at + size
        if end > len(self._data):
            raise IndexError("the box is too short")
        value = int.from_bytes(self._data[self._at : end], "big")
        self._at = end
        return value


def read_meta_boxes(file: BinaryIO, size: int) -> MetaBoxes:
    """The boxes in the first `meta` box; empty if there is none. `size` is the file's in bytes."""
    meta = next((box for box in read_top_level_boxes(file, size) if box.kind == b"meta"), None)
    if meta is None:
        return {}
    file.seek(meta.offset)
    return dict(read_children(file.read(min(meta.length, _MAX_META_BYTES))[4:]))


def read_children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in `content`."""
    for box in read_top_level_boxes(io.BytesIO(content), len(content)):
        yield box.kind, content[box.offset : box.end]


def read_primary_properties(boxes: MetaBoxes) -> list[tuple[bytes, bytes]]:
    """Kind and content of the primary item's properties, in the order of their application; what is damaged is left out."""
    with suppress(struct.error, IndexError, KeyError):
        parts = dict(read_children(boxes[b"iprp"]))
        properties = list(read_children(parts[b"ipco"]))
        pitm = boxes[b"pitm"]
        (primary,) = struct.unpack_from(">H" if pitm[0] == 0 else ">I", pitm, 4)
        numbers = _read_associations(parts[b"ipma"], primary)
        return [properties[number - 1] for number in numbers if 1 <= number <= len(properties)]
    return []


def read_nclx(source: Path) -> tuple[int, int] | None:
    """Colour primaries and transfer characteristics (ITU-T H.273 tables 2 and 3) of the primary item; None if they are not given."""
    with source.open("rb") as file:
        boxes = read_meta_boxes(file, source.stat().st_size)
    for kind, content in read_primary_properties(boxes):
        if kind == b"colr" and content[:4] == b"nclx" and len(content) >= 8:
            return int.from_bytes(content[4:6], "big"), int.from_bytes(content[6:8], "big")
    return None


def _read_associations(ipma: bytes, item: int) -> list[int]:
    """The properties of the item, as numbers from 1."""
    reader = FieldReader(ipma)
    version, flags = reader.read(1), reader.read(3)
    index_size = 2 if flags & 1 else 1
    essential = 1 << (8 * index_size - 1)
    for _ in range(min(reader.read(4), MAX_ENTRIES)):
        owner = reader.read(2 if version < 1 else 4)
        indexes = [reader.read(index_size) & (essential - 1) for _ in range(reader.read(1))]
        if owner == item:
            return indexes
    return []
