"""Limits the number of frames of a GIF without decoding any: its decoder reads all of them at opening."""

from __future__ import annotations

from pathlib import Path

from app.media.errors import LimitExceeded

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
