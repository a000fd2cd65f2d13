"""Small files that are held in memory until their whole upload has arrived, so that each costs one call of the storage.

What is held by all uploads of the process together is bounded; where the bound is reached, files are streamed as large ones are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from app.storage.digests import INLINE_BYTES
from app.uploads.errors import MalformedBody
from app.uploads.file_receiver import ReceivedFile, SizeCheck, UploadDigests

MAX_HELD_BODY_BYTES = 8 * 1024 * 1024
"""The largest body whose file is held."""
HELD_BYTES = 64 * 1024 * 1024
"""Limit for all bodies together."""
SMALL_CHUNK_BYTES = 4096
JOINED_BYTES = 64 * 1024


class HeldBytes:
    """Counts the bytes of the bodies that are held now."""

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self._left = limit

    @contextmanager
    def reserve(self, content_length: int | None) -> Generator[bool]:
        """True where the body may be held while the block runs."""
        size = MAX_HELD_BODY_BYTES + 1 if content_length is None else content_length
        if size > min(MAX_HELD_BODY_BYTES, self._left):
            yield False
            return
        self._left -= size
        try:
            yield True
        finally:
            self._left += size


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A whole file in memory. The pieces that are `bytes` can be stored without a copy."""

    pieces: Sequence[bytes | memoryview]
    received: ReceivedFile


async def hold_file(chunks: AsyncIterator[memoryview], check_size: SizeCheck) -> HeldFile:
    """Hold all of `chunks`, and hash them. Raises the errors of `chunks` and `check_size`.

    Small chunks are joined: a client that sends single bytes would take up a hundred times as much memory with an object for each."""
    pieces: list[bytes | memoryview] = []
    joined = bytearray()
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_HELD_BODY_BYTES:
            raise MalformedBody("The body is larger than its Content-Length")
        check_size(size)
        if len(chunk) < SMALL_CHUNK_BYTES:
            joined += chunk
        if joined and (len(chunk) >= SMALL_CHUNK_BYTES or len(joined) >= JOINED_BYTES):
            pieces.append(bytes(joined))
            joined.clear()
        if len(chunk) >= SMALL_CHUNK_BYTES:
            whole = chunk.obj
            pieces.append(whole if isinstance(whole, bytes) and len(whole) == len(chunk) else chunk)
    if joined:
        pieces.append(bytes(joined))
    if size <= INLINE_BYTES:
        digests = _digest(pieces)
    else:
        digests = await asyncio.get_running_loop().run_in_executor(None, _digest, pieces)
    return HeldFile(pieces, ReceivedFile(size, digests.sha1.digest(), digests.crc32))


def _digest(pieces: Sequence[bytes | memoryview]) -> UploadDigests:
    digests = UploadDigests()
    for piece in pieces:
        digests.update(piece)
    return digests
