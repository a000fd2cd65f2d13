"""Reads size and orientation of a JPEG XL picture from its codestream (ISO/IEC 18181-1 annex D). Decoders apply this orientation in place of
EXIF's."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from app.media.containers.iso_boxes import read_top_level_boxes

_CODESTREAM = b"\xff\x0a"
_HEADER_BYTES = 64
_EDGE_BITS = (9, 13, 18, 30)
_EDGE_BITS_OF_8 = 5
_RATIOS = tuple(map(Fraction, ("0", "1", "12/10", "4/3", "3/2", "16/9", "5/4", "2")))
"""Width by height; 0 if the width is given."""


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """`width` and `height` as stored, in pixels; 0 if unknown. `orientation` is EXIF's, 1 to 8."""

    width: int = 0
    height: int = 0
    orientation: int = 1


def read_jxl_header(source: Path) -> JxlHeader:
    """Raises `OSError`."""
    with source.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if not head.startswith(_CODESTREAM):
            boxes = read_top_level_boxes(file, source.stat().st_size)
            box = next((box for box in boxes if box.kind in (b"jxlc", b"jxlp")), None)
            if box is None:
                return JxlHeader()
            file.seek(box.offset + (4 if box.kind == b"jxlp" else 0))
            head = file.read(_HEADER_BYTES)
    if not head.startswith(_CODESTREAM):
        return JxlHeader()
    bits = _BitReader(head[len(_CODESTREAM) :])
    is_multiple_of_8 = bits.read(1)
    height = _read_edge(bits, is_multiple_of_8)
    ratio = _RATIOS[bits.read(3)]
    width = int(height * ratio) if ratio else _read_edge(bits, is_multiple_of_8)
    has_extra_fields = not bits.read(1) and bits.read(1)  # the first bit: all fields have their default
    return JxlHeader(width, height, bits.read(3) + 1 if has_extra_fields else 1)


def _read_edge(bits: _BitReader, is_multiple_of_8: int) -> int:
    if is_multiple_of_8:
        return (bits.read(_EDGE_BITS_OF_8) + 1) * 8
    return bits.read(_EDGE_BITS[bits.read(2)]) + 1


class _BitReader:
    """Reads bits as JPEG XL packs them, the lowest first. Zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "little")

    def read(self, count: int) -> int:
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        return value
