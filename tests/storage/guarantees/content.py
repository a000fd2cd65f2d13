"""Helpers of the guarantees that store and fetch bytes."""

from __future__ import annotations

import random

from app.storage.backend import MAX_CHUNK_BYTES, ObjectInfo, StorageBackend
from app.storage.key import Key
from app.storage.ranges import ByteRange

MEBIBYTE = 1024 * 1024


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that differ at every offset, so that misplaced ones are noticed."""
    return random.Random(seed).randbytes(size)


async def store(backend: StorageBackend, key: str, data: bytes) -> ObjectInfo:
    async with backend.write_stream(Key(key), size=len(data)) as writer:
        await writer.write(data)
    return await backend.head(Key(key))


async def fetch(
    backend: StorageBackend, key: str, byte_range: ByteRange | None = None, if_match: str | None = None
) -> bytes:
    """The object's bytes, after checking the guarantees of `ObjectStream`."""
    async with backend.read_stream(Key(key), byte_range, if_match) as stream:
        chunks = [chunk async for chunk in stream.chunks]
    assert all(0 < len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks)
    assert all(type(chunk) is bytes for chunk in chunks)
    assert sum(map(len, chunks)) == (stream.served.length if stream.served else 0)
    return b"".join(chunks)


async def keys_of(backend: StorageBackend, prefix: str = "", start_after: str | None = None) -> list[str]:
    return [info.key async for info in backend.list_objects(prefix, start_after)]
