"""`OpenBlock`: a verified block file, open for reading. `OpenBlocks`: those that were read a moment ago, for a film's next range.

A block is verified when it is opened. Afterwards its size and times are compared with each read, since a write to the file changes them: a
block that differs is verified anew. A file whose last change is very recent could be changed again without a new time, and is not kept
open.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable

from app.storage.backend import ObjectInfo
from app.storage.cache.block_format import BlockHeader, BlockId

MAX_OPEN_BLOCKS = 512
TICK_SECONDS = 1.0
"""Interval at which blocks that were evicted or deleted are closed, so that they free their space."""
GENERATION_TICKS = 30
"""A block is closed at the second tick of this number after it was opened."""
SETTLED_NS = 100_000_000
"""Above the resolution of the times of files."""

FileStamp = tuple[int, int, int, int]
"""Links, size, time of the last change of content and of status, in nanoseconds."""


def read_stamp(descriptor: int) -> FileStamp:
    status = os.fstat(descriptor)
    return status.st_nlink, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class OpenBlock:
    """Its bytes are `length` bytes of the file `descriptor`, from `data_offset` on: those of the object from `first` on.

    Each user calls `release` once; the last one closes the descriptor.
    """

    __slots__ = (
        "_users",
        "close_descriptor",
        "data_offset",
        "descriptor",
        "first",
        "header",
        "info",
        "is_settled",
        "never_waits",
        "stamp",
    )

    def __init__(
        self, descriptor: int, block: BlockId, header: BlockHeader, stamp: FileStamp, *, never_waits: bool
    ) -> None:
        """`stamp` was read before the block was verified. With `never_waits` (see `CacheFolder.never_waits`) the event loop's thread may
        look at the file; otherwise each call belongs in another thread, and `close_descriptor` is set to what closes it in one."""
        self.never_waits = never_waits
        self.close_descriptor: Callable[[int], object] = os.close
        self._users = 1
        self.descriptor = descriptor
        self.header = header
        self.info: ObjectInfo = header.info
        self.first = block.first
        self.data_offset = header.size
        self.set_stamp(stamp)

    def set_stamp(self, stamp: FileStamp) -> None:
        self.stamp = stamp
        self.is_settled = abs(time.time_ns() - max(stamp[2:])) > SETTLED_NS

    @property
    def end(self) -> int:
        """The offset in the object after the block's last byte."""
        return self.first + self.header.length

    def is_unchanged(self) -> bool:
        """True where the file is certainly as it was when it was verified, and has not been removed."""
        return self.is_settled and read_stamp(self.descriptor) == self.stamp

    def acquire(self) -> OpenBlock:
        self._users += 1
        return self

    def release(self) -> None:
        self._users -= 1
        if not self._users:
            self.close_descriptor(self.descriptor)


class OpenBlocks:
    """Blocks by key and index. For the event loop's thread only."""

    def __init__(self) -> None:
        self._young: OrderedDict[tuple[str, int], OpenBlock] = OrderedDict()
        self._old: dict[tuple[str, int], OpenBlock] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0

    def get(self, key: str, index: int) -> OpenBlock | None:
        """A block that is unchanged; the caller acquires it if it keeps it beyond the current callback."""
        entry = key, index
        block = self._young.get(entry) or self._old.get(entry)
        if block is None:
            return None
        if block.is_unchanged():
            return block
        self._drop(entry)
        return None

    def add(self, key: str, index: int, block: OpenBlock) -> None:
        """Keeps the block open for a moment, if it is settled and looking at its file never waits. The caller still has to release it."""
        entry = key, index
        if not (block.never_waits and block.is_settled) or entry in self._young or entry in self._old:
            return
        self._young[entry] = block.acquire()
        if len(self._young) + len(self._old) > MAX_OPEN_BLOCKS:
            self._drop(next(iter(self._old or self._young)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._on_tick)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for entry in (*self._young, *self._old):
            self._drop(entry)

    def _drop(self, entry: tuple[str, int]) -> None:
        for blocks in (self._young, self._old):
            if (block := blocks.pop(entry, None)) is not None:
                block.release()

    def _on_tick(self) -> None:
        self._ticks += 1
        if self._ticks % GENERATION_TICKS == 0:
            for block in self._old.values():
                block.release()
            self._old, self._young = dict(self._young), OrderedDict()
        for entry, block in (*self._young.items(), *self._old.items()):
            if not read_stamp(block.descriptor)[0]:
                self._drop(entry)
        is_empty = not (self._young or self._old)
        self._timer = None if is_empty else asyncio.get_running_loop().call_later(TICK_SECONDS, self._on_tick)
