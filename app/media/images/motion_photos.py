"""Finds the byte range of the video inside a motion photo. Runs in a worker. Decodes no picture.

Google: XMP lists the files that follow the photo (https://developer.android.com/media/platform/motion-photo-format), or gives the
video's distance from the end of the file (the older form, MicroVideo). In HEIF the video is in a box `mpvd`. Samsung: a trailer of
records, followed by its directory (`SEFH` … `SEFT`).
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from app.formats.signatures import DetectedFormat
from app.media.containers.iso_boxes import read_top_level_boxes
from app.media.images.decoding import open_image
from app.media.metadata.exif import get_xmp_packet
from app.media.metadata.xmp import XmpProperties, parse_xmp

_MOTION_PHOTO_RECORD = 0x0A30
_MAX_DIRECTORY = 64 * 1024


def locate_motion_video(source: str, content: str, pixels: int) -> dict[str, Any]:
    """`{"first": …, "last": …}`, byte offsets in the file, both inclusive; `{}` if there is no video."""
    path, kind = Path(source), DetectedFormat(content)
    size = path.stat().st_size
    xmp = XmpProperties()
    if kind in (DetectedFormat.JPEG, DetectedFormat.HEIF, DetectedFormat.AVIF):
        with suppress(Exception):  # rendering reports a photo that cannot be opened
            xmp = parse_xmp(get_xmp_packet(open_image(path, kind, pixels).image))
    with path.open("rb") as file:
        for first, length in (*_find_by_xmp(xmp, size), *_find_by_box(file, kind, size), *_find_by_trailer(file, size)):
            if first > 0 and 0 < length <= size - first and _is_video(file, first):
                return {"first": first, "last": first + length - 1}
    return {}


def _find_by_xmp(xmp: XmpProperties, size: int) -> list[tuple[int, int]]:
    candidates = []
    if xmp.items:
        end = size
        for item in reversed(xmp.items):
            start = end - item.length
            if item.semantic == "MotionPhoto":
                candidates.append((start, item.length))
            end = start - item.padding
    if xmp.video_offset:
        candidates.append((size - xmp.video_offset, xmp.video_offset))
    return candidates


def _find_by_box(file: BinaryIO, content: DetectedFormat, size: int) -> list[tuple[int, int]]:
    if content not in (DetectedFormat.HEIF, DetectedFormat.AVIF):
        return []
    return [(box.offset, box.length) for box in read_top_level_boxes(file, size) if box.kind == b"mpvd"]


def _find_by_trailer(file: BinaryIO, size: int) -> list[tuple[int, int]]:
    """Each record is two zero bytes, type, length of the name, name, data. The directory gives type, distance and length of each record."""
    tail = _read_at(file, size - 8, 8)
    if tail[4:] != b"SEFT":
        return []
    directory_offset = size - 8 - struct.unpack("<I", tail[:4])[0]
    directory = _read_at(file, directory_offset, min(size - 8 - directory_offset, _MAX_DIRECTORY))
    if directory[:4] != b"SEFH" or len(directory) < 12:
        return []
    candidates = []
    for kind, distance, length in struct.iter_unpack("<2xHII", directory[12 : 12 + (len(directory) - 12) // 12 * 12]):
        if kind != _MOTION_PHOTO_RECORD:
            continue
        record_offset = directory_offset - distance
        header = _read_at(file, record_offset, 8)
        if len(header) == 8:
            header_length = 8 + struct.unpack("<4xI", header)[0]
            candidates.append((record_offset + header_length, length - header_length))
    return candidates


def _is_video(file: BinaryIO, first: int) -> bool:
    return _read_at(file, first + 4, 4) == b"ftyp"


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    if offset < 0 or length <= 0:
        return b""
    file.seek(offset)
    return file.read(length)
