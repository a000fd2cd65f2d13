"""Reads the colour space of a PNG from the chunk `cICP` (PNG, third edition, section 11.3.2.6), which Pillow ignores. Decodes no picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SIGNATURE_BYTES = 8
_MAX_CHUNKS = 10_000
_RGB_IN_FULL_RANGE = b"\0\1"
"""Matrix and range, the only ones that PNG permits in practice: others are ignored, as by browsers."""


def read_cicp(source: Path) -> tuple[int, int] | None:
    """Colour primaries and transfer characteristics (ITU-T H.273 tables 2 and 3); None if they are not given. Raises `OSError`."""
    with source.open("rb") as file:
        for kind, length in _iterate_chunks(file):
            if kind == b"IDAT":
                break
            if kind == b"cICP" and length == 4:
                content = file.read(4)
                return (content[0], content[1]) if content[2:] == _RGB_IN_FULL_RANGE else None
    return None


def _iterate_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk; the file is at its content. Stops at the first header that is none."""
    offset = _SIGNATURE_BYTES
    for _ in range(_MAX_CHUNKS):
        file.seek(offset)
        header = file.read(8)
        if len(header) < 8 or not header[4:].isalpha():
            return
        length = int.from_bytes(header[:4], "big")
        yield header[4:], length
        offset += 12 + length
