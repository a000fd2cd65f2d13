"""Receives one uploaded file: hashes its bytes and writes them to the store as they arrive, in constant memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Protocol

from app.storage.backend import MAX_CHUNK_BYTES, ObjectWriter
from app.storage.crc32 import crc32
from app.storage.digests import UpdateDigest

BUFFER_BYTES = MAX_CHUNK_BYTES
"""Bytes that are hashed and written at a time. There are two buffers: one is filled while the other is stored."""
SPARE_BUFFERS = 8


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
    head = bytes(read[0][:size]) if len(read) == 1 else b"".join(read)[:size]
    return head, _chain(read, chunks)


async def _chain(read: list[memoryview], rest: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
    for chunk in read:
        yield chunk
    async for chunk in rest:
        yield chunk


async def receive_file(writer: ObjectWriter, chunks: AsyncIterator[memoryview], check_size: SizeCheck) -> ReceivedFile:
    """Write all of `chunks` to `writer`, without committing it.

    Hashing and writing run in threads, concurrently with the wait for the next bytes. Raises the errors of `chunks`, `writer` and
    `check_size`; afterwards nothing runs on in the background.
    """
    digest = UploadDigests()
    size = 0
    async with aclosing(PipelinedWriter(writer.write, digest.update)) as pipeline:
        async for chunk in chunks:
            size += len(chunk)
            check_size(size)
            await pipeline.feed(chunk)
        await pipeline.flush()
    return ReceivedFile(size, digest.sha1.digest(), digest.crc32)


class BufferPool:
    """Keeps the buffers of ended requests for the next ones: a resumable upload is many requests, and new buffers cost page faults. Keeps as
    many as are in use, and at least `SPARE_BUFFERS`."""

    def __init__(self) -> None:
        self._spare: list[_Buffer] = []
        self._used = 0

    def take(self) -> _Buffer:
        self._used += 1
        return self._spare.pop() if self._spare else _Buffer()

    def give_back(self, *buffers: _Buffer) -> None:
        for buffer in buffers:
            buffer.clear()
            self._spare.append(buffer)
        self._used -= len(buffers)
        del self._spare[max(SPARE_BUFFERS, self._used) :]


class PipelinedWriter:
    """Hashes and writes the bytes that it is fed, `BUFFER_BYTES` at a time, while the next ones are awaited."""

    def __init__(
        self,
        write: Callable[[memoryview, UpdateDigest], Awaitable[None]],
        update_digest: UpdateDigest,
        pool: BufferPool | None = None,
    ) -> None:
        """`write`: see `ObjectWriter.write`. `pool` lends the buffers until `aclose`."""
        self._write = write
        self._update_digest = update_digest
        self._pool = pool or BufferPool()
        self._filling, self._storing = self._pool.take(), self._pool.take()
        self._task: asyncio.Task[None] | None = None

    async def feed(self, chunk: memoryview) -> None:
        """Raises the errors of an earlier write."""
        while chunk := self._filling.fill(chunk):
            await self._wait()
            self._task = asyncio.create_task(self._store(self._filling.filled()))
            self._filling, self._storing = self._storing, self._filling
            self._filling.clear()

    async def flush(self) -> None:
        """Returns when all bytes are hashed and written."""
        await self._wait()
        if rest := self._filling.filled():
            await self._store(rest)
            self._filling.clear()

    async def aclose(self) -> None:
        """Cancel a write that is under way, and forget what was not written."""
        if self._task is not None:
            await _cancel(self._task)
            self._task = None
        self._pool.give_back(self._filling, self._storing)

    async def _wait(self) -> None:
        if self._task is not None:
            await self._task
            self._task = None

    async def _store(self, data: memoryview) -> None:
        await self._write(data, self._update_digest)


@dataclass(slots=True)
class UploadDigests:
    """SHA-1 and CRC-32 of a file, as far as it has arrived."""

    sha1: hashlib._Hash = field(default_factory=lambda: hashlib.sha1(usedforsecurity=False))
    crc32: int = 0

    def update(self, data: bytes | memoryview) -> None:
        self.sha1.update(data)
        self.crc32 = crc32(data, self.crc32)


class _Buffer:
    """A reused buffer: the page faults of a new one each time would cost more than copying its bytes."""

    def __init__(self) -> None:
        # Not from the heap, where smaller objects between freed buffers would keep their memory from being used again.
        self._view = memoryview(mmap(-1, BUFFER_BYTES, MAP_PRIVATE | MAP_ANONYMOUS))
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


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel the task, wait for its end, and ignore its error."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
