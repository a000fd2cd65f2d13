"""A part of a file becomes a file of its own."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

from app.config import MEBIBYTE
from app.media.errors import DecodeFailed, MediaDiskFull, SourceUnreadable
from app.storage.ranges import ByteRange

COPY_CHUNK_BYTES = 8 * MEBIBYTE


async def extract_range(source: Path, part: ByteRange, target: Path) -> None:
    """In pieces, so that a cancellation waits for one at most. Raises `MediaError`."""
    try:
        await _copy(source, part, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MediaDiskFull("there is no room for the moving part") from None
        raise SourceUnreadable(f"its moving part cannot be taken out: {error.strerror}") from None


async def _copy(source: Path, part: ByteRange, target: Path) -> None:
    size = (await asyncio.to_thread(source.stat)).st_size
    there = part.clamp(size)
    if there is None:
        raise DecodeFailed("the moving part lies beyond the end")
    at, left = there.first, there.length
    while left:
        piece = min(left, COPY_CHUNK_BYTES)
        copied = await asyncio.to_thread(_append, source, at, piece, target)
        if not copied:
            raise DecodeFailed("the moving part ends early")
        at, left = at + copied, left - copied


def _append(source: Path, at: int, size: int, target: Path) -> int:
    with source.open("rb") as original, target.open("ab") as copy:
        original.seek(at)
        return copy.write(original.read(size))
