"""Windows of cached blocks, for sendfile(2); see `app.storage.local.file_windows`, which does the same for local files.

A block whose file was touched, removed or written to is verified anew before its next bytes are sent.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from app.storage.backend import WINDOW_BYTES
from app.storage.cache.disk import CacheDisk, CacheUnavailable
from app.storage.cache.open_block import OpenBlock
from app.storage.errors import ObjectChanged, StorageUnavailable
from app.storage.local.file_windows import LOOKUP_SECONDS
from app.storage.local.syscalls import count_cached_bytes
from app.storage.ranges import FileWindow


class BlockFile:
    """The file of an open block, as `SendableFile`."""

    __slots__ = ("_block", "_cached_end", "_disk", "_looked_up_at", "backend")

    def __init__(self, disk: CacheDisk, block: OpenBlock, backend: str) -> None:
        self._disk = disk
        self._block = block
        self._cached_end = 0
        self._looked_up_at = 0.0
        self.backend = backend

    @property
    def key(self) -> str:
        return self._block.info.key

    def fileno(self) -> int:
        return self._block.descriptor

    def is_cached(self, offset: int, count: int) -> bool:
        if not self._block.is_unchanged():
            return False
        now = time.monotonic()
        if offset + count > self._cached_end or now - self._looked_up_at > LOOKUP_SECONDS:
            end = self._block.data_offset + self._block.header.length
            self._cached_end = offset + count_cached_bytes(self.fileno(), offset, end - offset)
            self._looked_up_at = now
        return offset + count <= self._cached_end

    async def load(self, offset: int, count: int) -> None:
        try:
            data = await self._disk.read_piece(self._block, count, offset)
        except CacheUnavailable as error:
            raise StorageUnavailable(self.key, self.backend, "the disk of the cache fails") from error
        if len(data) < count:
            raise ObjectChanged(self.key, self.backend, "the cached block is damaged")


async def iter_windows(file: BlockFile, offset: int, end: int) -> AsyncGenerator[FileWindow]:
    """The windows of the file's bytes from `offset` to `end`; ends early where the block cannot be read any more."""
    while offset < end:
        count = min(WINDOW_BYTES, end - offset)
        if not file.is_cached(offset, count):
            try:
                await file.load(offset, count)
            except (ObjectChanged, StorageUnavailable):
                return
        yield FileWindow(file, offset, count)
        offset += count
