"""`CachedRead`: one read of an object, block by block: from the cache, from a fetch that fills it, or from the store.

All blocks of a read have the same ETag. What goes wrong with the cache only makes the read go on from the store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import cast

from app.storage.backend import CHUNK_BYTES, ObjectInfo, ObjectStream, ReadOrigin, StorageBackend
from app.storage.cache.block_format import BLOCK_BYTES, BlockId
from app.storage.cache.disk import CacheDisk, CacheUnavailable
from app.storage.cache.fills import Fill, Fills, FillState
from app.storage.cache.open_block import OpenBlock, OpenBlocks
from app.storage.cache.policy import CachePolicy
from app.storage.cache.windows import BlockFile, iter_windows
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable
from app.storage.key import Key
from app.storage.local.file_windows import SendfileSupport
from app.storage.local.syscalls import read_cached
from app.storage.ranges import ByteRange, FileWindow

_MAX_RETRIES = 2
"""How often a block is looked for again without a byte between."""


@dataclass(slots=True)
class LookupCounts:
    """Blocks that reads asked for: `hits` were in the cache, `misses` were fetched and cached, `bypasses` came from the store, and were
    not."""

    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    hit_bytes: int = 0


class ReadCache:
    """What all reads of a cache share."""

    def __init__(
        self, store: StorageBackend, location: str, disk: CacheDisk, policy: CachePolicy, wait_seconds: float
    ) -> None:
        self.store = store
        self.location = location
        self.disk = disk
        self.policy = policy
        self.counts = LookupCounts()
        self.open_blocks = OpenBlocks()
        self.fills = Fills(store, disk, wait_seconds)
        self._sendfile_support = SendfileSupport()

    async def aclose(self) -> None:
        await self.fills.aclose()
        self.open_blocks.close()
        await self.disk.aclose()

    def block(self, key: Key, index: int) -> BlockId:
        return BlockId(self.location, key.value, index)

    def can_send(self, block: OpenBlock) -> bool:
        """Whether the kernel can send the block's bytes by itself, without waiting."""
        return block.never_waits and self._sendfile_support.check(block.descriptor, block.data_offset)

    async def find(self, key: Key, index: int, etag: str | None) -> OpenBlock | None:
        """The block, of this version if one is given, acquired for the caller."""
        if not self.disk.may_read:
            return None
        opened = self.open_blocks.get(key.value, index)
        if opened is not None:
            opened.acquire()
        else:
            opened = await self.disk.find(self.block(key, index))
            if opened is None:
                return None
            self.open_blocks.add(key.value, index, opened)
        if etag in (None, opened.info.etag):
            return opened
        opened.release()
        return None


class CachedRead:
    """The context manager that `read_stream` returns."""

    def __init__(self, cache: ReadCache, key: Key, byte_range: ByteRange | None, if_match: str | None) -> None:
        self._cache = cache
        self._key = key
        self._range = byte_range
        self._etag = if_match
        self._stack = AsyncExitStack()
        self._origin = ReadOrigin()
        self._is_admitted: bool | None = None
        self._fetched: set[int] = set()
        """The blocks that this read has waited for, or has had fetched ahead."""

    async def __aenter__(self) -> ObjectStream:
        try:
            return await self._open()
        except BaseException:
            await self._stack.aclose()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _open(self) -> ObjectStream:
        first = self._range.first if self._range is not None else 0
        part = await self._find_part(first // BLOCK_BYTES)
        if part is None or part.info is None:
            return await self._stack.enter_async_context(
                self._cache.store.read_stream(self._key, self._range, self._etag)
            )
        if isinstance(part, OpenBlock):
            self._stack.callback(part.release)
        info: ObjectInfo = part.info
        served = (self._range or ByteRange(0)).clamp(info.size)
        if served is None or served.last is None:
            raise RangeNotSatisfiable(self._key.value, self._cache.store.name, info.size)
        self._etag = info.etag
        chunks = self._iter_chunks(part, served.first, served.last + 1)
        self._stack.push_async_callback(chunks.aclose)
        windows = None
        if isinstance(part, OpenBlock) and served.length > CHUNK_BYTES and self._cache.can_send(part):
            windows = self._iter_pieces(part, served.first, served.last + 1, as_windows=True)
            self._stack.push_async_callback(windows.aclose)
        return ObjectStream(info, served, chunks, windows, self._origin)

    async def _find_part(self, index: int) -> OpenBlock | Fill | None:
        """The block, or its fetch, which has begun to receive bytes; None where the store has to be read. An open block is released by the
        caller."""
        cache, opened, fill = self._cache, None, None
        self._origin.is_cached = False
        try:
            opened = await cache.find(self._key, index, self._etag)
            if opened is not None:
                self._origin.is_cached = index not in self._fetched
                cache.counts.hits += self._origin.is_cached
                return opened
            fill = await self._join_fill(index)
            if fill is not None and fill.state is FillState.CACHED:
                opened = await cache.find(self._key, index, self._etag)
        except CacheUnavailable:
            pass  # the store answers
        if opened is None and (fill is None or fill.state is FillState.CACHED):
            cache.counts.bypasses += 1
            return None
        self._count_fetch(index)
        return opened or fill

    async def _join_fill(self, index: int) -> Fill | None:
        """The fetch of the block, started if the policy admits the object; None where it does not, or fails. Raises the store's error
        where the fetch asked for the same version as this read."""
        cache = self._cache
        if self._is_admitted is None:
            self._is_admitted = cache.policy.admit(self._key)
        if not self._is_admitted or not cache.disk.may_write:
            return None
        fill = await cache.fills.join(self._key, cache.block(self._key, index), self._etag)
        if fill is None:
            return None
        state = await fill.wait_for_answer()
        if fill.info is not None and self._etag not in (None, fill.info.etag):
            return None
        if state is FillState.FAILED and fill.info is None and fill.if_match == self._etag:
            await self._raise_error(fill)
        return fill if state in (FillState.FETCHING, FillState.FETCHED, FillState.CACHED) else None

    async def _raise_error(self, fill: Fill) -> None:
        error = fill.error
        if error is None or (isinstance(error, RangeNotSatisfiable) and self._range is None):
            return  # an empty object, read whole
        if isinstance(error, (ObjectNotFound, ObjectChanged)):
            await self._cache.disk.remove_objects([fill.block.object_name])
        raise error

    async def _iter_chunks(self, part: OpenBlock | Fill, position: int, end: int) -> AsyncGenerator[bytes]:
        async with aclosing(self._iter_pieces(part, position, end, as_windows=False)) as pieces:
            async for piece in pieces:
                yield cast("bytes", piece)

    async def _iter_pieces(
        self, part: OpenBlock | Fill | None, position: int, end: int, *, as_windows: bool
    ) -> AsyncGenerator[bytes | FileWindow]:
        """With `as_windows`, windows of what is cached, and bytes of what is not."""
        retries = 0
        is_first = True
        while position < end:
            if not is_first:
                part = await self._find_part(position // BLOCK_BYTES) if retries <= _MAX_RETRIES else None
            began = position
            if part is None:
                async with aclosing(self._iter_store(position, end)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            block_end = min(end, (position // BLOCK_BYTES + 1) * BLOCK_BYTES)
            try:
                reading: AsyncGenerator[bytes | FileWindow] | AsyncGenerator[bytes]
                if isinstance(part, OpenBlock):
                    reading = self._iter_block(part, position, block_end, as_windows=as_windows)
                else:
                    reading = self._iter_fill(part, position, block_end, end)
                async with aclosing(reading) as chunks:
                    async for chunk in chunks:
                        position += len(chunk)
                        yield chunk
            finally:
                if isinstance(part, OpenBlock) and not is_first:
                    part.release()
            is_first = False
            retries = 0 if position > began else retries + 1

    async def _iter_store(self, position: int, end: int) -> AsyncGenerator[bytes]:
        byte_range = ByteRange(position, end - 1)
        async with self._cache.store.read_stream(self._key, byte_range, self._etag) as stream:
            async for chunk in stream.chunks:
                yield chunk

    async def _iter_block(
        self, block: OpenBlock, position: int, end: int, *, as_windows: bool
    ) -> AsyncGenerator[bytes | FileWindow]:
        shift = block.data_offset - block.first
        cache = self._cache
        if as_windows:
            pieces = iter_windows(BlockFile(cache.disk, block, cache.store.name), position + shift, end + shift)
        else:
            pieces = self._iter_bytes(block, position + shift, end + shift)
        async with aclosing(pieces):
            async for piece in pieces:
                cache.counts.hit_bytes += len(piece) if self._origin.is_cached else 0
                yield piece

    async def _iter_bytes(self, block: OpenBlock, offset: int, end: int) -> AsyncGenerator[bytes]:
        """Of the block's file. Ends early where the block cannot be read any more."""
        while offset < end:
            length = min(CHUNK_BYTES, end - offset)
            chunk = b""
            if block.never_waits and block.is_unchanged():
                with suppress(OSError):
                    chunk = read_cached(block.descriptor, length, offset)
            if not chunk:
                try:
                    chunk = await self._cache.disk.read_piece(block, length, offset)
                except CacheUnavailable:
                    return
            if not chunk:
                return
            offset += len(chunk)
            yield chunk

    async def _iter_fill(self, fill: Fill, position: int, end: int, read_end: int) -> AsyncGenerator[bytes]:
        """Ends early where the fetch has failed, or its bytes are in the cache by now."""
        if end < read_end:
            self._prefetch(fill.block.index + 1)
        number, offset = 0, fill.block.first
        while position < end:
            while number < len(fill.pieces):
                piece = fill.pieces[number]
                number += 1
                offset += len(piece)
                if offset <= position:
                    continue
                chunk = piece[position - offset + len(piece) :][: end - position]
                position += len(chunk)
                yield chunk
                if position >= end:
                    return
            if fill.state is not FillState.FETCHING:
                return
            await fill.wait_for_change()

    def _prefetch(self, index: int) -> None:
        """Starts the fetch of the block that this read will need next."""
        if self._cache.fills.start(self._key, self._cache.block(self._key, index), self._etag) is not None:
            self._count_fetch(index)

    def _count_fetch(self, index: int) -> None:
        if index not in self._fetched:
            self._fetched.add(index)
            self._cache.counts.misses += 1
