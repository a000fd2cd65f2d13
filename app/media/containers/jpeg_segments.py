"""Walks the segments of a JPEG (ITU-T T.81 annex B). Decodes nothing."""

from __future__ import annotations

from typing import BinaryIO

_MARKER, _START_OF_SCAN = 0xFF, 0xDA
_MAX_SEGMENTS = 10_000


def find_first_scan(file: BinaryIO) -> int:
    """Offset of the first SOS marker: what is before it (thumbnails, metadata) is no part of the picture. For a damaged file, the offset of the
    first bytes that are no segment."""
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        file.seek(offset)
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != _MARKER or marker[1] == _START_OF_SCAN:
            break
        # Fill bytes may precede a marker (section B.1.1.2).
        offset += 1 if marker[1] == _MARKER else 2 + int.from_bytes(marker[2:], "big")
    return offset
