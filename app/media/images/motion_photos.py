"""Finds the byte range of the video inside a motion photo. Runs in a worker. Decodes no picture.

Samsung: a box `mpvd` in HEIF, or a trailer of records followed by its directory (`SEFH` … `SEFT`). These are exact. Google and those who write
its XMP: the video follows the pictures. What XMP says about lengths is a hint only: editors insert and remove pictures, makers append records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from app.formats.signatures import DetectedFormat
from app.media.containers.embedded_videos import EmbeddedVideo, measure_video, search_video
from app.media.containers.iso_boxes import read_top_level_boxes
from app.media.containers.jpeg_segments import find_first_scan
from app.media.images.decoding import open_image
from app.media.images.motion_photo_xmp import MotionPhotoXmp, parse_motion_photo_xmp

_MOTION_PHOTO_RECORD = 0x0A30
_MAX_DIRECTORY = 64 * 1024
_CONTAINER_FORMATS = (DetectedFormat.HEIF, DetectedFormat.AVIF)


def locate_motion_video(source: str, content: str, pixels: int) -> dict[str, Any]:
    """`{"first": …, "last": …}`, byte offsets in the file, both inclusive; `{}` if there is no video."""
    path, kind = Path(source), DetectedFormat(content)
    size = path.stat().st_size
    with path.open("rb") as file:
        for first, end in (*_find_boxes(file, kind, size), *_find_records(file, size)):
            found = measure_video(file, first, end) or search_video(file, first, end)
            if found is not None:
                return _build_answer(found)
        xmp = _read_xmp(path, kind, pixels)
        if xmp.is_motion_photo:
            found = _find_behind_pictures(file, kind, size, xmp)
            if found is not None:
                return _build_answer(found)
    return {}


def _build_answer(found: EmbeddedVideo) -> dict[str, Any]:
    return {"first": found.start, "last": found.end - 1}


def _read_xmp(path: Path, kind: DetectedFormat, pixels: int) -> MotionPhotoXmp:
    if kind is not DetectedFormat.JPEG and kind not in _CONTAINER_FORMATS:
        return MotionPhotoXmp()
    packet = b""
    # Rendering reports a photo that cannot be opened.
    with suppress(Exception), open_image(path, kind, pixels).image as image:
        packet = image.info.get("xmp", b"")
    return parse_motion_photo_xmp(packet)


def _find_behind_pictures(file: BinaryIO, kind: DetectedFormat, size: int, xmp: MotionPhotoXmp) -> EmbeddedVideo | None:
    first = _find_image_data(file, kind, size)
    for distance in xmp.distances:
        found = measure_video(file, size - distance, size) if size - distance >= first else None
        if found is not None:
            return found
    return search_video(file, first, size)


def _find_image_data(file: BinaryIO, kind: DetectedFormat, size: int) -> int:
    """An offset behind the headers of the first picture. Compressed image data behind it cannot be taken for the boxes of a video."""
    if kind in _CONTAINER_FORMATS:
        return next((box.end for box in read_top_level_boxes(file, size)), 0)
    return find_first_scan(file)


def _find_boxes(file: BinaryIO, content: DetectedFormat, size: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of the content of each box `mpvd`."""
    if content in _CONTAINER_FORMATS:
        for box in read_top_level_boxes(file, size):
            if box.kind == b"mpvd":
                yield box.offset, min(box.end, size)


def _find_records(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of the data of each video in the trailer.

    Each record is two zero bytes, type, length of the name, name, data. The directory gives type, distance and length of each record."""
    tail = _read_at(file, size - 8, 8)
    if tail[4:] != b"SEFT":
        return
    directory_offset = size - 8 - struct.unpack("<I", tail[:4])[0]
    directory = _read_at(file, directory_offset, min(size - 8 - directory_offset, _MAX_DIRECTORY))
    if directory[:4] != b"SEFH" or len(directory) < 12:
        return
    for kind, distance, length in struct.iter_unpack("<2xHII", directory[12 : 12 + (len(directory) - 12) // 12 * 12]):
        if kind != _MOTION_PHOTO_RECORD:
            continue
        record_offset = directory_offset - distance
        header = _read_at(file, record_offset, 8)
        if len(header) == 8:
            header_length = 8 + struct.unpack("<4xI", header)[0]
            yield record_offset + header_length, min(record_offset + length, directory_offset)


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    if offset < 0 or length <= 0:
        return b""
    file.seek(offset)
    return file.read(length)
