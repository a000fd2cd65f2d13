"""Copies a byte range of a local file into a new file, such as the video of a motion photo."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

from app.config import MEBIBYTE
from app.media.errors import DecodeFailed, MediaDiskFull, SourceUnreadable
from app.storage.ranges import ByteRange

COPY_CHUNK_BYTES = 8 * MEBIBYTE


async def extract_range(source: Path, part: ByteRange, target: Path) -> None:
    """Copies in chunks, so that a cancellation waits for one chunk at most. Raises `MediaError`."""
    try:
        await _copy(source, part, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MediaDiskFull("there is no room for the moving part") from None
        raise SourceUnreadable(f"its moving part cannot be taken out: {error.strerror}") from None


async def _copy(source: Path, part: ByteRange, target: Path) -> None:
    size = (await asyncio.to_thread(source.stat)).st_size
    clamped = part.clamp(size)
    if clamped is None:
        raise DecodeFailed("the moving part lies beyond the end")
    offset, remaining = clamped.first, clamped.length
    while remaining:
        chunk_size = min(remaining, COPY_CHUNK_BYTES)
        copied = await asyncio.to_thread(_append, source, offset, chunk_size, target)
        if not copied:
            raise DecodeFailed("the moving part ends early")
        offset, remaining = offset + copied, remaining - copied


def _append(source: Path, offset: int, size: int, target: Path) -> int:
    with source.open("rb") as original, target.open("ab") as copy:
        original.seek(offset)
        return copy.write(original.read(size))
