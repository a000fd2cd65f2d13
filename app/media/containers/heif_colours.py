"""Reads the colour space that a HEIF or AVIF gives for its primary picture as code points (box `colr` of type `nclx`). Decodes no picture."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

from app.media.containers.iso_boxes import read_top_level_boxes

_MAX_META = 16 * 1024 * 1024


def read_nclx(source: Path) -> tuple[int, int] | None:
    """Colour primaries and transfer characteristics (ITU-T H.273 tables 2 and 3); None if there are none or the boxes are damaged."""
    size = source.stat().st_size
    with source.open("rb") as file:
        meta = next((box for box in read_top_level_boxes(file, size) if box.kind == b"meta"), None)
        if meta is None or meta.length > _MAX_META:
            return None
        file.seek(meta.offset)
        content = file.read(meta.length)
    try:
        return _find_nclx(content[4:])
    except (struct.error, IndexError):
        return None


def _find_nclx(meta: bytes) -> tuple[int, int] | None:
    """ISO/IEC 23008-12 section 9.3: `iprp` has a list of properties, and for each item the numbers of its properties, from 1."""
    boxes = dict(_iterate_boxes(meta))
    parts = list(_iterate_boxes(boxes.get(b"iprp", b"")))
    properties = [each for kind, content in parts if kind == b"ipco" for each in _iterate_boxes(content)]
    primary = _parse_primary_item(boxes[b"pitm"]) if b"pitm" in boxes else None
    for kind, content in parts:
        if kind == b"ipma":
            for item, number in _iterate_associations(content):
                if item == primary and 0 < number <= len(properties):
                    name, colour = properties[number - 1]
                    if name == b"colr" and colour[:4] == b"nclx":
                        return struct.unpack(">HH", colour[4:8])
    return None


def _parse_primary_item(content: bytes) -> int:
    return struct.unpack(">I" if content[0] else ">H", content[4 : 8 if content[0] else 6])[0]


def _iterate_associations(content: bytes) -> Iterator[tuple[int, int]]:
    """Item and number of property (ISO/IEC 23008-12 section 9.3.2)."""
    version, has_wide_numbers = content[0], content[3] & 1
    item_format, number_format = ">I" if version else ">H", ">H" if has_wide_numbers else ">B"
    at = 8
    for _ in range(struct.unpack(">I", content[4:8])[0]):
        (item,) = struct.unpack_from(item_format, content, at)
        at += struct.calcsize(item_format)
        count = content[at]
        at += 1
        for _ in range(count):
            (number,) = struct.unpack_from(number_format, content, at)
            at += struct.calcsize(number_format)
            yield item, number & (0x7FFF if has_wide_numbers else 0x7F)


def _iterate_boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    for box in read_top_level_boxes(io.BytesIO(content), len(content)):
        yield box.kind, content[box.offset : box.end]
