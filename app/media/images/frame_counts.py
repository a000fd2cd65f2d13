"""Limits the number of frames (GIF) and directories (TIFF) without decoding any: their decoders read all of them at opening."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from app.media.errors import DecodeFailed, LimitExceeded

_EXTENSION, _IMAGE, _TRAILER = b"!", b",", b";"


def check_gif_frames(source: Path, max_frames: int) -> None:
    """Raises `LimitExceeded` for more than `max_frames` frames (GIF89a specification, sections 17 to 27). Ignores damage; the decoder reports it."""
    with source.open("rb") as file:
        header = file.read(13)
        if len(header) == 13:
            file.seek(_colour_table_bytes(header[10]), 1)
        frames = 0
        while (kind := file.read(1)) in (_EXTENSION, _IMAGE):
            if kind == _IMAGE:
                frames += 1
                if frames > max_frames:
                    raise LimitExceeded(f"it has more than {max_frames} frames")
                descriptor = file.read(9)
                file.seek(_colour_table_bytes(descriptor[8]) if len(descriptor) == 9 else 0, 1)
            file.seek(1, 1)
            while count := file.read(1)[:1]:
                if count == b"\0":
                    break
                file.seek(count[0], 1)


def _colour_table_bytes(flags: int) -> int:
    """Length in bytes of the colour table that `flags` announce; 0 for none."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def check_tiff_directories(source: Path, max_directories: int) -> None:
    """Raises `LimitExceeded` for more than `max_directories` directories and `DecodeFailed` if they form a loop."""
    with source.open("rb") as file:
        head = file.read(8)
        order = "<" if head[:2] == b"II" else ">"
        if head[2:4] != struct.pack(f"{order}H", 42) or len(head) < 8:
            return  # BigTIFF, or no TIFF: not checked; BigTIFF's decoder keeps a list of directories itself
        (offset,) = struct.unpack(f"{order}4xI", head)
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise DecodeFailed("its directories form a loop")
            seen.add(offset)
            if len(seen) > max_directories:
                raise LimitExceeded(f"it has more than {max_directories} pictures")
            offset = _next_directory(file, offset, order)


def _next_directory(file: BinaryIO, offset: int, order: str) -> int:
    """Offset of the directory after this one; 0 after the last one, and if the file ends too early."""
    file.seek(offset)
    count = file.read(2)
    if len(count) < 2:
        return 0
    file.seek(12 * struct.unpack(f"{order}H", count)[0], 1)
    following = file.read(4)
    return struct.unpack(f"{order}I", following)[0] if len(following) == 4 else 0
