"""Checks that a file is as long as its own headers say, for MP4/MOV/HEIF/AVIF, AVI and Matroska. Decodes nothing.

The check is needed because decoders play a truncated video up to its end without an error.
"""

from __future__ import annotations

from pathlib import Path

from app.formats.signatures import DetectedFormat
from app.media.containers.iso_boxes import read_top_level_boxes
from app.media.errors import DecodeFailed

_KNOWN_BOXES = frozenset({
    b"ftyp", b"moov", b"moof", b"mdat", b"meta", b"free", b"skip", b"wide", b"udta", b"uuid", b"sidx", b"styp", b"mfra", b"mpvd",
})  # fmt: skip
"""Boxes whose lengths are checked. The check stops at any other, because arbitrary data may follow the last box."""

_SEGMENT = b"\x18\x53\x80\x67"


def check_not_truncated(source: Path, content: DetectedFormat) -> None:
    """Raises `DecodeFailed` for a file that is shorter than its headers say, and `OSError`."""
    size = source.stat().st_size
    with source.open("rb") as file:
        if content in (DetectedFormat.MOV, DetectedFormat.HEIF, DetectedFormat.AVIF):
            for box in read_top_level_boxes(file, size):
                if box.kind not in _KNOWN_BOXES:
                    return
                _check_size(box.offset + box.length, size)
        elif content is DetectedFormat.AVI:
            head = file.read(8)
            _check_size(8 + int.from_bytes(head[4:], "little"), size)
        elif content is DetectedFormat.MATROSKA:
            _check_size(_read_segment_end(file.read(4096)), size)


def _check_size(needed: int, size: int) -> None:
    if needed > size:
        raise DecodeFailed(f"it is cut short: {size} of {needed} bytes are there")


def _read_segment_end(head: bytes) -> int:
    """Offset of the segment's end; 0 if its size is unknown, as in live recordings (RFC 8794 section 6, RFC 9559 section 4.4)."""
    at = head.find(_SEGMENT)
    if at < 0 or len(head) < at + 12:
        return 0
    first = head[at + 4]
    length = 9 - first.bit_length()
    if length > 8:
        return 0
    size = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
    return 0 if size == (1 << 7 * length) - 1 else at + 4 + length + size
