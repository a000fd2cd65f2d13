"""Finds an MP4 inside another file, and its exact length: the sum of its top-level boxes. Decodes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from app.media.containers.iso_boxes import read_top_level_boxes

_PADDING_BOXES = frozenset({b"free", b"skip", b"wide"})
_VIDEO_BOXES = _PADDING_BOXES | {
    b"ftyp", b"moov", b"moof", b"mdat", b"meta", b"udta", b"uuid", b"sidx", b"ssix", b"styp", b"mfra", b"pdin", b"prft", b"emsg",
}  # fmt: skip
_CHUNK = 1024 * 1024
_MAX_PADDING = 64 * 1024
_MAX_CANDIDATES = 1000
"""Occurrences of `ftyp` that are examined in one file, because a hostile file may be full of them."""


@dataclass(frozen=True, slots=True)
class EmbeddedVideo:
    """Byte offsets in the file; `end` is exclusive."""

    start: int
    end: int


def measure_video(file: BinaryIO, start: int, limit: int) -> EmbeddedVideo | None:
    """The MP4 whose first box, `ftyp` or padding before it, is at `start`; it ends at `limit` at the latest. None if none is there, or not all of
    it. What follows the last box of an MP4, such as a maker's own records, is not part of it."""
    end, kinds = start, set[bytes]()
    if not 0 < start < limit:
        return None
    for box in read_top_level_boxes(file, limit, start):
        # `ftyp` comes first, and once: a second one begins another file.
        if box.kind not in _VIDEO_BOXES or (
            box.kind not in _PADDING_BOXES and (box.kind == b"ftyp") == (b"ftyp" in kinds)
        ):
            break
        if box.end > limit:
            return None
        kinds.add(box.kind)
        end = box.end
    return EmbeddedVideo(start, end) if b"moov" in kinds else None


def search_video(file: BinaryIO, start: int, limit: int) -> EmbeddedVideo | None:
    """The first MP4 that lies between the offsets `start` and `limit`, with padding boxes directly before it."""
    for count, type_offset in enumerate(_find_all(file, b"ftyp", start, limit)):
        if count >= _MAX_CANDIDATES:
            return None
        found = measure_video(file, type_offset - 4, limit)
        if found is not None and found.start >= start:
            return EmbeddedVideo(_find_padding(file, start, found.start), found.end)
    return None


def _find_padding(file: BinaryIO, start: int, end: int) -> int:
    """The offset of the padding box that ends at `end`; `end` if there is none."""
    first = max(start, end - _MAX_PADDING)
    file.seek(first)
    before = file.read(end - first)
    for kind in _PADDING_BOXES:
        at = before.rfind(kind)
        if at >= 4 and int.from_bytes(before[at - 4 : at], "big") == len(before) - (at - 4):
            return first + at - 4
    return end


def _find_all(file: BinaryIO, wanted: bytes, start: int, limit: int) -> Iterator[int]:
    """Offsets of `wanted` in the file. Reads in chunks."""
    overlap = b""
    offset = start
    while offset < limit:
        file.seek(offset)
        chunk = file.read(min(_CHUNK, limit - offset))
        if not chunk:
            return
        data = overlap + chunk
        at = data.find(wanted)
        while at >= 0:
            yield offset - len(overlap) + at
            at = data.find(wanted, at + 1)
        overlap = data[-(len(wanted) - 1) :]
        offset += len(chunk)
