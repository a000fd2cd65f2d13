"""Finds the XMP packet of an MP4 or MOV: in a box `uuid` of the file (XMP part 3, section 1.1.3) or in `moov/udta/XMP_` (section 1.1.4). Parses
no XML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from app.formats import MAX_SIDECAR_BYTES
from app.media.containers.iso_boxes import IsoBox, read_top_level_boxes

_MAX_ENTRIES = 1000
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def has_xmp_packet(source: Path) -> bool:
    """Raises `OSError`."""
    with source.open("rb") as file:
        return next(_find_packets(file, source.stat().st_size), None) is not None


def read_xmp_packet(source: Path) -> bytes:
    """Empty if there is none, or a larger one than a sidecar may be. Raises `OSError`."""
    size = source.stat().st_size
    with source.open("rb") as file:
        for start, end in _find_packets(file, size):
            if end - start <= MAX_SIDECAR_BYTES:
                file.seek(start)
                return file.read(end - start)
    return b""


def _find_packets(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of each packet in the file."""
    for box in read_top_level_boxes(file, size):
        if box.kind == b"uuid" and box.length > len(_XMP_UUID):
            file.seek(box.offset)
            if file.read(len(_XMP_UUID)) == _XMP_UUID:
                yield box.offset + len(_XMP_UUID), box.end
        elif box.kind == b"moov":
            yield from _find_in_user_data(file, min(box.end, size), box)


def _find_in_user_data(file: BinaryIO, limit: int, moov: IsoBox) -> Iterator[tuple[int, int]]:
    for box in read_top_level_boxes(file, limit, moov.offset):
        if box.kind == b"udta":
            yield from _find_entries(file, box.offset, min(box.end, limit))


def _find_entries(file: BinaryIO, start: int, limit: int) -> Iterator[tuple[int, int]]:
    """Packets among the entries of user data. Their kinds may begin with a copyright sign, unlike those of boxes."""
    offset = start
    for _ in range(_MAX_ENTRIES):
        file.seek(offset)
        header = file.read(8)
        length = int.from_bytes(header[:4], "big")
        if length < 8 or offset + length > limit:
            return
        if header[4:] == b"XMP_":
            yield offset + 8, offset + length
        offset += length
