"""Reads the metadata items of HEIF and AVIF files (ISO/IEC 14496-12 section 8.11, ISO/IEC 23008-12), and the orientation of the picture.
Decodes no picture.

libexiv2 0.28 finds items only where it expects them, which is not where exiftool and some phones put them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.media.containers.heif_properties import (
    MAX_ENTRIES,
    FieldReader,
    MetaBoxes,
    read_children,
    read_meta_boxes,
    read_primary_properties,
)

_MAX_ITEM_BYTES = 16 * 1024 * 1024
_UPRIGHT = 1
_XMP_TYPE = b"application/rdf+xml"
_IN_FILE, _IN_META = 0, 1
"""Construction methods of item locations."""

_TURNED_LEFT = {1: 8, 2: 5, 3: 6, 4: 7, 5: 4, 6: 1, 7: 2, 8: 3}
"""EXIF's orientation after another quarter turn to the left."""

_MIRRORED_ACROSS = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 8, 8: 7}
"""EXIF's orientation after left and right were exchanged."""

_MIRRORED_DOWN = {1: 4, 2: 3, 3: 2, 4: 1, 5: 8, 6: 7, 7: 6, 8: 5}
"""EXIF's orientation after top and bottom were exchanged."""


@dataclass(frozen=True, slots=True)
class HeifItems:
    """`exif` is a TIFF structure, `xmp` a packet; empty if there is none. `orientation` is the one that `irot` and `imir` give the primary item, EXIF's
    1 to 8."""

    exif: bytes = b""
    xmp: bytes = b""
    orientation: int = _UPRIGHT


def read_heif_items(source: Path) -> HeifItems:
    """What is damaged is left out. Raises `OSError`."""
    size = source.stat().st_size
    with source.open("rb") as file:
        boxes = read_meta_boxes(file, size)
        exif = xmp = b""
        orientation = _UPRIGHT
        with suppress(struct.error, IndexError, KeyError):
            orientation = _read_orientation(boxes)
        with suppress(struct.error, IndexError, KeyError):
            kinds = dict(_read_item_kinds(boxes[b"iinf"]))
            for item, location in _read_locations(boxes[b"iloc"]):
                if kinds.get(item) == b"Exif" and not exif:
                    exif = _strip_exif_header(_read_item(file, size, boxes, location))
                elif kinds.get(item) == _XMP_TYPE and not xmp:
                    xmp = _read_item(file, size, boxes, location)
    return HeifItems(exif, xmp, orientation)


@dataclass(frozen=True, slots=True)
class _Location:
    """`extents` are offset and length in bytes."""

    method: int
    extents: tuple[tuple[int, int], ...]


def _read_item_kinds(iinf: bytes) -> Iterator[tuple[int, bytes]]:
    """Item id and its type; of an item of type `mime` the content type."""
    entries = iinf[6:] if iinf[0] == 0 else iinf[8:]
    for kind, infe in read_children(entries):
        if kind != b"infe" or infe[0] < 2:
            continue
        (item,) = struct.unpack_from(">H" if infe[0] == 2 else ">I", infe, 4)
        at = 8 if infe[0] == 2 else 10
        item_type = infe[at : at + 4]
        if item_type == b"mime":
            item_type = infe[at + 4 :].split(b"\0")[1]
        yield item, item_type


def _read_locations(iloc: bytes) -> Iterator[tuple[int, _Location]]:
    reader = FieldReader(iloc)
    version = reader.read(1)
    reader.read(3)
    sizes = reader.read(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in (1, 2) else 0
    id_size = 4 if version == 2 else 2
    for _ in range(min(reader.read(id_size), MAX_ENTRIES)):
        item = reader.read(id_size)
        method = reader.read(2) & 15 if version in (1, 2) else _IN_FILE
        reader.read(2)
        base = reader.read(base_size)
        extents = []
        for _ in range(min(reader.read(2), MAX_ENTRIES)):
            reader.read(index_size)
            offset = base + reader.read(offset_size)
            extents.append((offset, reader.read(length_size)))
        yield item, _Location(method, tuple(extents))


def _read_item(file: BinaryIO, size: int, boxes: MetaBoxes, location: _Location) -> bytes:
    if location.method not in (_IN_FILE, _IN_META) or sum(length for _, length in location.extents) > _MAX_ITEM_BYTES:
        return b""
    content = bytearray()
    for offset, length in location.extents:
        if location.method == _IN_META:
            content += boxes[b"idat"][offset : offset + length]
        elif offset < size:  # a file system refuses to seek far beyond the end
            file.seek(offset)
            content += file.read(length)
    return bytes(content)


def _strip_exif_header(item: bytes) -> bytes:
    """The TIFF structure: the item begins with its offset (ISO/IEC 23008-12 annex A.2.1)."""
    (offset,) = struct.unpack_from(">I", item)
    return item[4 + offset :]


def _read_orientation(boxes: MetaBoxes) -> int:
    orientation = _UPRIGHT
    for kind, content in read_primary_properties(boxes):
        orientation = _transform(orientation, kind, content)
    return orientation


def _transform(orientation: int, kind: bytes, content: bytes) -> int:
    if kind == b"irot":
        for _ in range(content[0] & 3):
            orientation = _TURNED_LEFT[orientation]
    elif kind == b"imir":
        orientation = (_MIRRORED_ACROSS if content[0] & 1 else _MIRRORED_DOWN)[orientation]
    return orientation
