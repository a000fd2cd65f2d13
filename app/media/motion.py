"""The video inside a motion photo: where it begins and ends. Runs in a worker, and decodes nothing.

Google: XMP names the files that follow the photo (https://developer.android.com/media/platform/motion-photo-format), or the
video's distance from the end (its older form, MicroVideo); in HEIF the video is in a box `mpvd`. Samsung: a trailer of
records, its directory last (`SEFH` … `SEFT`).
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from app.media.boxes import top_level_boxes
from app.media.exif import packet_of
from app.media.pictures import open_picture
from app.media.signatures import Content
from app.media.xmp import Xmp, read_xmp

_MOTION_PHOTO_RECORD = 0x0A30
_MAX_DIRECTORY = 64 * 1024


def locate(source: str, content: str, pixels: int) -> dict[str, Any]:
    """`{"first": …, "last": …}` in bytes of the file, both inclusive; `{}` where there is no video."""
    path, kind = Path(source), Content(content)
    size = path.stat().st_size
    xmp = Xmp()
    if kind in (Content.JPEG, Content.HEIF, Content.AVIF):
        with suppress(Exception):  # a photo that cannot be opened is told of where its pictures are made
            xmp = read_xmp(packet_of(open_picture(path, kind, pixels).image))
    with path.open("rb") as file:
        for first, length in (*_by_xmp(xmp, size), *_by_box(file, kind, size), *_by_trailer(file, size)):
            if first > 0 and 0 < length <= size - first and _is_video(file, first):
                return {"first": first, "last": first + length - 1}
    return {}


def _by_xmp(xmp: Xmp, size: int) -> list[tuple[int, int]]:
    found = []
    if xmp.items:
        end = size
        for item in reversed(xmp.items):
            start = end - item.length
            if item.semantic == "MotionPhoto":
                found.append((start, item.length))
            end = start - item.padding
    if xmp.video_offset:
        found.append((size - xmp.video_offset, xmp.video_offset))
    return found


def _by_box(file: BinaryIO, content: Content, size: int) -> list[tuple[int, int]]:
    if content not in (Content.HEIF, Content.AVIF):
        return []
    return [(box.first, box.length) for box in top_level_boxes(file, size) if box.kind == b"mpvd"]


def _by_trailer(file: BinaryIO, size: int) -> list[tuple[int, int]]:
    """A record is two zero bytes, its type, the length of its name, its name, its data; the directory has type, distance and size."""
    tail = _at(file, size - 8, 8)
    if tail[4:] != b"SEFT":
        return []
    directory_at = size - 8 - struct.unpack("<I", tail[:4])[0]
    directory = _at(file, directory_at, min(size - 8 - directory_at, _MAX_DIRECTORY))
    if directory[:4] != b"SEFH" or len(directory) < 12:
        return []
    found = []
    for kind, distance, length in struct.iter_unpack("<2xHII", directory[12 : 12 + (len(directory) - 12) // 12 * 12]):
        if kind != _MOTION_PHOTO_RECORD:
            continue
        record_at = directory_at - distance
        header = _at(file, record_at, 8)
        if len(header) == 8:
            named = 8 + struct.unpack("<4xI", header)[0]
            found.append((record_at + named, length - named))
    return found


def _is_video(file: BinaryIO, first: int) -> bool:
    return _at(file, first + 4, 4) == b"ftyp"


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    if offset < 0 or length <= 0:
        return b""
    file.seek(offset)
    return file.read(length)
