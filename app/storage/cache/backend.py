"""The cache as backends: `CachedBackend` reads through it, `InvalidatingBackend` only keeps it right.

What is sent to clients is read through the cache. Moves, `verify`, backups and processing read from the store itself, but
what they delete or write leaves the cache too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Protocol

from app.storage.backend import (
    CHUNK_BYTES,
    DiskSpace,
    FindKeysInUse,
    ObjectInfo,
    ObjectStream,
    ObjectWriter,
    StorageBackend,
)
from app.storage.cache.block_format import BLOCK_BYTES, MAX_HEADER_BYTES, make_object_name
from app.storage.cache.reads import CachedRead, ReadCache
from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.local.syscalls import read_cached
from app.storage.ranges import ByteRange
from app.storage.resumable import ResumableAppender, ResumableWrites, ResumableWriteState, SaveState


class Invalidate(Protocol):
    async def __call__(self, *keys: Key) -> None: ...


class InvalidatingBackend:
    """See `StorageBackend` for each method. Blocks are removed after the store has answered, whatever it has answered: what is fetched from
    then on is the new state."""

    def __init__(self, cache: ReadCache) -> None:
        self._cache = cache
        self._store: StorageBackend = cache.store
        self.resumable_writes: ResumableWrites = _InvalidatingResumableWrites(
            self._store.resumable_writes, self.invalidate
        )
        self.exists = self._store.exists
        self.stored_checksum = self._store.stored_checksum
        self.ensure_prefix = self._store.ensure_prefix
        self.prune_folders = self._store.prune_folders
        self.probe = self._store.probe
        self.check_marker = self._store.check_marker
        self.local_path = self._store.local_path
        self.presigned_url = self._store.presigned_url

    @property
    def name(self) -> str:
        return self._store.name

    async def invalidate(self, *keys: Key) -> None:
        location = self._cache.location
        await self._cache.disk.remove_objects(make_object_name(location, key.value) for key in keys)

    async def head(self, key: Key) -> ObjectInfo:
        return await self._store.head(key)

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return self._store.read_stream(key, byte_range, if_match)

    def read_from_memory(self, key: Key, byte_range: ByteRange, size: int) -> bytes | None:
        return None

    @asynccontextmanager
    async def write_stream(
        self,
        key: Key,
        *,
        size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        skip_exists_check: bool = False,
    ) -> AsyncGenerator[ObjectWriter]:
        write = self._store.write_stream(
            key, size=size, content_type=content_type, metadata=metadata, skip_exists_check=skip_exists_check
        )
        try:
            async with write as writer:
                yield writer
        finally:
            await self.invalidate(key)

    async def put_object(self, key: Key, data: bytes, metadata: Mapping[str, str] | None = None) -> None:
        try:
            await self._store.put_object(key, data, metadata)
        finally:
            await self.invalidate(key)

    async def copy_object(self, source: Key, target: Key) -> None:
        try:
            await self._store.copy_object(source, target)
        finally:
            await self.invalidate(target)

    async def move_object(self, source: Key, target: Key) -> None:
        try:
            await self._store.move_object(source, target)
        finally:
            await self.invalidate(source, target)

    async def delete_object(self, key: Key) -> None:
        try:
            await self._store.delete_object(key)
        finally:
            await self.invalidate(key)

    async def delete_objects(self, keys: Iterable[Key]) -> Mapping[Key, StorageError]:
        deleted = list(keys)
        try:
            return await self._store.delete_objects(deleted)
        finally:
            await self.invalidate(*deleted)

    def list_objects(self, prefix: str = "", start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        return self._store.list_objects(prefix, start_after)

    async def disk_space(self, prefix: str) -> DiskSpace | None:
        return await self._store.disk_space(prefix)

    async def sweep_leftovers(self, older_than: timedelta, find_in_use: FindKeysInUse | None = None) -> int:
        return await self._store.sweep_leftovers(older_than, find_in_use)

    async def aclose(self) -> None:
        """Closes the cache and the store."""
        await self._cache.aclose()
        await self._store.aclose()


class CachedBackend(InvalidatingBackend):
    """Reads go through the cache. `aclose` is that of the `InvalidatingBackend` of the same cache: one of the two is closed."""

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        if not self._cache.policy.may_hold(key):
            return self._store.read_stream(key, byte_range, if_match)
        return CachedRead(self._cache, key, byte_range, if_match)

    def read_from_memory(self, key: Key, byte_range: ByteRange, size: int) -> bytes | None:
        """Reads a cached block, or two that follow each other, from the page cache. Every failure returns None: `read_stream` meets it
        again."""
        first, last = byte_range.first, byte_range.last
        if last is None or last >= size or not self._cache.disk.may_read:
            return None
        index = first // BLOCK_BYTES
        boundary = (index + 1) * BLOCK_BYTES
        try:
            data = self._read_open_block(key, index, first, min(last + 1, boundary), size)
            if data is not None and last >= boundary:
                rest = self._read_open_block(key, index + 1, boundary, last + 1, size)
                data = None if rest is None else data + rest
        except OSError:
            return None
        if data is None or len(data) != last + 1 - first:
            return None
        counts = self._cache.counts
        counts.hits += 1
        counts.hit_bytes += len(data)
        return data

    def _read_open_block(self, key: Key, index: int, first: int, end: int, size: int) -> bytes | None:
        """The bytes of the object from `first` to `end`, which are in one block."""
        block = self._cache.open_blocks.get(key.value, index)
        if block is None:
            return self._open_small(key, first, end, size)
        if block.info.size != size or end > block.end:
            return None
        return read_cached(block.descriptor, end - first, block.data_offset + first - block.first)

    def _open_small(self, key: Key, first: int, end: int, size: int) -> bytes | None:
        cache, store = self._cache, self._cache.disk.store
        if size > CHUNK_BYTES or store is None or not cache.policy.may_hold(key):
            return None
        found = store.open_from_memory(cache.block(key, 0), CHUNK_BYTES + MAX_HEADER_BYTES)
        if found is None:
            return None
        block, content = found
        try:
            if block.info.size != size:
                return None
            cache.open_blocks.add(key.value, 0, block)
        finally:
            block.release()
        return content[block.data_offset + first : block.data_offset + end]


class _InvalidatingResumableWrites:
    """See `ResumableWrites` for each method. Only a commit makes an object visible."""

    def __init__(self, writes: ResumableWrites, invalidate: Invalidate) -> None:
        self._writes = writes
        self._invalidate = invalidate
        self.begin = writes.begin
        self.abort = writes.abort
        self.check = writes.check

    def append(
        self, key: Key, state: ResumableWriteState, *, size: int | None, save: SaveState, is_contested: bool
    ) -> AbstractAsyncContextManager[ResumableAppender]:
        return self._writes.append(key, state, size=size, save=save, is_contested=is_contested)

    async def commit(self, key: Key, state: ResumableWriteState, size: int, *, is_contested: bool = False) -> None:
        try:
            await self._writes.commit(key, state, size, is_contested=is_contested)
        finally:
            await self._invalidate(key)
