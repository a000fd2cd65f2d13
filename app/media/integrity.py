"""Whether a file is as long as its own headers say, for formats that tell. A video that was cut short often plays to the cut."""

from __future__ import annotations

from pathlib import Path

from app.media.boxes import top_level_boxes
from app.media.errors import DecodeFailed
from app.media.signatures import Content

_KNOWN_BOXES = frozenset({
    b"ftyp", b"moov", b"moof", b"mdat", b"meta", b"free", b"skip", b"wide", b"udta", b"uuid", b"sidx", b"styp", b"mfra", b"mpvd",
})  # fmt: skip
"""What stands behind a file's last box may be anything, and is not taken for one."""

_SEGMENT = b"\x18\x53\x80\x67"


def check_complete(source: Path, content: Content) -> None:
    """Raises `DecodeFailed` for a file that is shorter than it says."""
    size = source.stat().st_size
    with source.open("rb") as file:
        if content in (Content.MOV, Content.HEIF, Content.AVIF):
            for box in top_level_boxes(file, size):
                if box.kind not in _KNOWN_BOXES:
                    return
                _check(box.first + box.length, size)
        elif content is Content.AVI:
            head = file.read(8)
            _check(8 + int.from_bytes(head[4:], "little"), size)
        elif content is Content.MATROSKA:
            _check(_end_of_segment(file.read(4096)), size)


def _check(needed: int, size: int) -> None:
    if needed > size:
        raise DecodeFailed(f"it is cut short: {size} of {needed} bytes are there")


def _end_of_segment(head: bytes) -> int:
    """0 where it is not told, as while something is being recorded (RFC 8794 section 6, RFC 9559 section 4.4)."""
    at = head.find(_SEGMENT)
    if at < 0 or len(head) < at + 12:
        return 0
    first = head[at + 4]
    length = 9 - first.bit_length()
    if length > 8:
        return 0
    size = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
    return 0 if size == (1 << 7 * length) - 1 else at + 4 + length + size
