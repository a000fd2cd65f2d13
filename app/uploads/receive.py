"""One file on its way into the store: its bytes are hashed and written as they arrive, in constant memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from app.storage.backend import MAX_CHUNK_BYTES, ObjectWriter
from app.storage.checksum import crc32

PIECE_BYTES = MAX_CHUNK_BYTES
"""What is hashed and written at a time. Two pieces exist at once: one fills while the other is stored."""


@dataclass(frozen=True, slots=True)
class Received:
    """`size` in bytes, `sha1` 20 bytes."""

    size: int
    sha1: bytes
    crc32: int


class SizeGuard(Protocol):
    """Told the file's size so far before any of it is stored; raises to refuse it."""

    def __call__(self, size: int, /) -> None: ...


async def receive_file(writer: ObjectWriter, chunks: AsyncIterator[memoryview], guard: SizeGuard) -> Received:
    """Write all of `chunks` to `writer`, which stays open: whether to commit is the caller's decision.

    Hashing runs in a thread beside the write, and both beside the wait for the next bytes. Raises what `chunks`,
    `writer` or `guard` raise; nothing of it runs on afterwards.
    """
    digest = _Digest()
    piece, stored = _Piece(), _Piece()
    storing: asyncio.Task[None] | None = None
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            guard(size)
            while chunk := piece.fill(chunk):
                if storing is not None:
                    await storing
                storing = asyncio.create_task(_store(piece.content(), writer, digest))
                piece, stored = stored, piece
                piece.empty()
        if storing is not None:
            await storing
    finally:
        if storing is not None:
            await _abandon(storing)
    if rest := piece.content():
        await _store(rest, writer, digest)
    return Received(size, digest.sha1.digest(), digest.crc32)


@dataclass(slots=True)
class _Digest:
    sha1: hashlib._Hash = field(default_factory=lambda: hashlib.sha1(usedforsecurity=False))
    crc32: int = 0

    def update(self, data: memoryview) -> None:
        self.sha1.update(data)
        self.crc32 = crc32(data, self.crc32)


class _Piece:
    """A buffer that is filled, stored, and filled again: a new one each time would cost more in page faults than its bytes do."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(PIECE_BYTES))
        self._used = 0

    def fill(self, chunk: memoryview) -> memoryview:
        """Take what fits, and return the rest: empty unless this piece is full."""
        start = self._used
        taken = min(len(chunk), PIECE_BYTES - start)
        self._view[start : start + taken] = chunk[:taken]
        self._used = start + taken
        return chunk[taken:]

    def content(self) -> memoryview:
        return self._view[: self._used]

    def empty(self) -> None:
        self._used = 0


async def _store(data: memoryview, writer: ObjectWriter, digest: _Digest) -> None:
    hashing = asyncio.get_running_loop().run_in_executor(None, digest.update, data)
    try:
        await writer.write(data)
    finally:
        await hashing


async def _abandon(task: asyncio.Task[None]) -> None:
    """Nothing to do where it has ended."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
