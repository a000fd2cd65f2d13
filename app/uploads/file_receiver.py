"""Receives one uploaded file: hashes its bytes and writes them to the store as they arrive, in constant memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from app.storage.backend import MAX_CHUNK_BYTES, ObjectWriter
from app.storage.crc32 import crc32

BUFFER_BYTES = MAX_CHUNK_BYTES
"""Bytes that are hashed and written at a time. There are two buffers: one is filled while the other is stored."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """`size` in bytes, `sha1` as 20 bytes."""

    size: int
    sha1: bytes
    crc32: int


class SizeCheck(Protocol):
    """Called with the file's size so far, before those bytes are stored; raises to refuse the file."""

    def __call__(self, size: int, /) -> None: ...


async def read_head(chunks: AsyncIterator[memoryview], size: int) -> tuple[bytes, AsyncIterator[memoryview]]:
    """The first `size` bytes of a file (all of a shorter one), and an iterator over the whole file."""
    read: list[memoryview] = []
    missing = size
    while missing > 0 and (chunk := await anext(chunks, None)) is not None:
        read.append(chunk)
        missing -= len(chunk)
    return b"".join(read)[:size], _chain(read, chunks)


async def _chain(read: list[memoryview], rest: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
    for chunk in read:
        yield chunk
    async for chunk in rest:
        yield chunk


async def receive_file(writer: ObjectWriter, chunks: AsyncIterator[memoryview], check_size: SizeCheck) -> ReceivedFile:
    """Write all of `chunks` to `writer`, without committing it.

    Hashing runs in a thread, concurrently with the write, and both concurrently with the wait for the next bytes. Raises the errors of
    `chunks`, `writer` and `check_size`; afterwards nothing runs on in the background.
    """
    digest = _UploadDigests()
    piece, stored = _Buffer(), _Buffer()
    storing: asyncio.Task[None] | None = None
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            check_size(size)
            while chunk := piece.fill(chunk):
                if storing is not None:
                    await storing
                storing = asyncio.create_task(_store(piece.filled(), writer, digest))
                piece, stored = stored, piece
                piece.clear()
        if storing is not None:
            await storing
    finally:
        if storing is not None:
            await _cancel(storing)
    if rest := piece.filled():
        await _store(rest, writer, digest)
    return ReceivedFile(size, digest.sha1.digest(), digest.crc32)


@dataclass(slots=True)
class _UploadDigests:
    sha1: hashlib._Hash = field(default_factory=lambda: hashlib.sha1(usedforsecurity=False))
    crc32: int = 0

    def update(self, data: memoryview) -> None:
        self.sha1.update(data)
        self.crc32 = crc32(data, self.crc32)


class _Buffer:
    """A reused buffer: the page faults of a new one each time would cost more than copying its bytes."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._used = 0

    def fill(self, chunk: memoryview) -> memoryview:
        """Copy the bytes that fit, and return the rest; the rest is empty unless the buffer is full."""
        start = self._used
        taken = min(len(chunk), BUFFER_BYTES - start)
        self._view[start : start + taken] = chunk[:taken]
        self._used = start + taken
        return chunk[taken:]

    def filled(self) -> memoryview:
        return self._view[: self._used]

    def clear(self) -> None:
        self._used = 0


async def _store(data: memoryview, writer: ObjectWriter, digest: _UploadDigests) -> None:
    hashing = asyncio.get_running_loop().run_in_executor(None, digest.update, data)
    try:
        await writer.write(data)
    finally:
        await hashing


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel the task, wait for its end, and ignore its error."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
