"""`BlockStore`: reads, writes and removes the block files of a `CacheFolder`. All calls block and raise OSError.

A block is written to a temporary file, which is its lock too (flock): who holds it fetches the block, for all processes of the host. The
rename that makes a block visible fails where the temporary file was removed meanwhile. So `remove_object` also stops the writers that began
before it: their bytes may be those of a deleted object.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.storage.backend import ObjectInfo
from app.storage.cache.block_format import (
    BLOCK_BYTES,
    MAX_HEADER_BYTES,
    BlockHeader,
    BlockId,
    decode_header,
    encode_header,
)
from app.storage.cache.folder import SHARD_DIGITS, TEMPORARY_SUFFIX, CacheFolder, occupied_bytes
from app.storage.cache.open_block import OpenBlock, read_stamp
from app.storage.crc32 import crc32
from app.storage.local.syscalls import ConfinedOpener, read_cached, write_all

TOUCH_SECONDS = 60.0
"""A block that is opened counts as used now, if it does not for the last `TOUCH_SECONDS` already."""
_VERIFY_BYTES = 1024 * 1024
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW


@dataclass(slots=True)
class BlockCounts:
    """Of this process, for metrics."""

    damaged: int = 0
    evicted: int = 0
    eviction_failures: int = 0
    """Files that could not be evicted."""
    written_bytes: int = 0


class PendingBlock:
    """A locked temporary file for one block. Ends with `BlockStore.publish` or `abandon`, whichever takes it first."""

    __slots__ = ("_lock", "block", "descriptor", "name")

    def __init__(self, block: BlockId, name: str, descriptor: int) -> None:
        self.block = block
        self.name = name
        self.descriptor = descriptor
        self._lock = threading.Lock()

    def take(self) -> int:
        """The descriptor, which the caller closes, however long another thread has given up waiting for it; -1 where it was taken
        before."""
        with self._lock:
            descriptor, self.descriptor = self.descriptor, -1
            return descriptor

    def is_removed(self) -> bool:
        """True where the file was removed: the object was deleted or replaced, by whatever process. Not while the block is published."""
        with self._lock:
            return self.descriptor >= 0 and os.fstat(self.descriptor).st_nlink == 0


class BlockStore:
    def __init__(
        self,
        folder: CacheFolder,
        counts: BlockCounts,
        *,
        limit: int,
        reserve: int,
        touch_seconds: float = TOUCH_SECONDS,
    ) -> None:
        """`limit`: most bytes of all blocks; `reserve`: bytes of the disk that stay free."""
        self.folder = folder
        self.counts = counts
        self.limit = limit
        self.reserve = reserve
        self._touch_ns = int(touch_seconds * 1e9)
        self._opener = ConfinedOpener(folder.descriptor)
        self.never_waits = folder.never_waits()
        """See `CacheFolder.never_waits`."""

    def open(self, block: BlockId) -> OpenBlock | None:
        """None where the block is not there. A damaged one is removed."""
        try:
            descriptor = self._opener.open(_path(block).encode(), _READ_FLAGS)
        except FileNotFoundError:
            return None
        try:
            stamp = read_stamp(descriptor)
            header = self._read_header(descriptor, block)
            if header is None or not _matches_data(descriptor, header):
                self._remove_damaged(block, descriptor)
                os.close(descriptor)
                return None
            if time.time_ns() - stamp[2] > self._touch_ns:
                os.utime(descriptor)
                stamp = read_stamp(descriptor)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno == errno.EIO:
                self._remove_damaged(block, descriptor)
            os.close(descriptor)
            raise
        return OpenBlock(descriptor, block, header, stamp, never_waits=self.never_waits)

    def open_from_memory(self, block: BlockId, max_bytes: int) -> tuple[OpenBlock, bytes] | None:
        """The block and the content of its file, without waiting for the disk. None where the block has more than `max_bytes` or is not
        cached. Raises OSError, `BlockingIOError` where the disk is needed."""
        if not self.never_waits or not self._opener.supports_open_cached:
            return None
        descriptor = self._opener.open_cached(_path(block).encode(), _READ_FLAGS)
        try:
            stamp = read_stamp(descriptor)
            header = None
            if stamp[1] <= max_bytes and time.time_ns() - stamp[2] <= self._touch_ns:
                content = read_cached(descriptor, stamp[1], 0)
                header = decode_header(content, block)
                if header is not None and crc32(memoryview(content)[header.size :]) == header.data_crc32:
                    return OpenBlock(descriptor, block, header, stamp, never_waits=True), content
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def verify(self, opened: OpenBlock) -> bool:
        """Whether an open block still has its bytes, although its file was touched, removed or written to."""
        stamp = read_stamp(opened.descriptor)
        if not _matches_data(opened.descriptor, opened.header):
            return False
        opened.set_stamp(stamp)
        return True

    def begin(self, block: BlockId) -> PendingBlock | None:
        """None while another writer, of whatever process, has the block."""
        name = _path(block) + TEMPORARY_SUFFIX
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            try:
                descriptor = os.open(name, flags, 0o600, dir_fd=self.folder.descriptor)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(name[:SHARD_DIGITS], 0o700, dir_fd=self.folder.descriptor)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._leads_to(name, descriptor):
                    os.ftruncate(descriptor, 0)
                    return PendingBlock(block, name, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # published or removed before it was locked

    def has_room(self, size: int) -> bool:
        """Whether a block of `size` bytes would be taken now."""
        usage = self.folder.read_usage()
        return usage is not None and usage + size <= self.limit and self.folder.free_space() - size >= self.reserve

    def publish(self, pending: PendingBlock, info: ObjectInfo, pieces: Sequence[bytes]) -> bool:
        """Writes the block's bytes and makes it visible. False where it was not cached: there is no room, the object was removed meanwhile,
        or the block was abandoned before."""
        descriptor = pending.take()
        if descriptor < 0:
            return False
        try:
            return self._publish(pending, descriptor, info, pieces)
        finally:
            self._end(pending.name, descriptor)

    def _publish(self, pending: PendingBlock, descriptor: int, info: ObjectInfo, pieces: Sequence[bytes]) -> bool:
        length, checksum = 0, 0
        for piece in pieces:
            length += len(piece)
            checksum = crc32(piece, checksum)
        header = encode_header(pending.block, info, length, checksum)
        space = occupied_bytes(MAX_HEADER_BYTES if header is None else len(header) + length)
        if header is None or self.folder.free_space() - space < self.reserve:
            return False
        if not self.folder.add_usage(space, self.limit):
            return False
        is_published = False
        try:
            write_all(descriptor, [header, *pieces])
            is_published = self._rename(pending, descriptor)
        finally:
            if not is_published:
                self.folder.add_usage(-space)
        self.counts.written_bytes += length
        return is_published

    def abandon(self, pending: PendingBlock) -> None:
        """Idempotent. Removes the temporary file, unless `publish` has taken it, which then ends it."""
        descriptor = pending.take()
        if descriptor >= 0:
            self._end(pending.name, descriptor)

    def _end(self, name: str, descriptor: int) -> None:
        """Removes the temporary file, unless it was published, and frees its lock."""
        try:
            if self._leads_to(name, descriptor):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self.folder.descriptor)
        finally:
            os.close(descriptor)

    def remove_object(self, object_name: str) -> None:
        """Removes all blocks of an object, and keeps writers that have begun from publishing theirs.

        A listing may miss what is renamed while it goes on. A temporary file that this happens to is listed as a block by the next one.
        """
        shard, prefix = object_name[:SHARD_DIGITS], f"{object_name}-"
        empty_listings = 0
        while empty_listings < 2:
            found = [name for name in self.folder.iter_shard(shard) if name.startswith(prefix)]
            empty_listings = 0 if found else empty_listings + 1
            for name in sorted(found, key=lambda name: not name.endswith(TEMPORARY_SUFFIX)):
                if name.endswith(TEMPORARY_SUFFIX):
                    with suppress(FileNotFoundError):
                        os.unlink(f"{shard}/{name}", dir_fd=self.folder.descriptor)
                else:
                    self.folder.remove_block(f"{shard}/{name}")

    def _rename(self, pending: PendingBlock, descriptor: int) -> bool:
        """False where the temporary file was removed. One that another writer has made since, and that is renamed in its place, is no
        harm: until it is complete, its checksums differ."""
        target, folder = _path(pending.block), self.folder.descriptor
        if not self._leads_to(pending.name, descriptor):
            return False
        self.folder.remove_block(target)
        try:
            os.rename(pending.name, target, src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            return False
        return True

    def _leads_to(self, name: str, descriptor: int) -> bool:
        try:
            return os.path.samestat(self.folder.stat(name), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _read_header(self, descriptor: int, block: BlockId) -> BlockHeader | None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_HEADER_BYTES + BLOCK_BYTES:
            return None
        header = decode_header(os.pread(descriptor, MAX_HEADER_BYTES, 0), block)
        return header if header is not None and status.st_size == header.size + header.length else None

    def _remove_damaged(self, block: BlockId, descriptor: int) -> None:
        self.counts.damaged += 1
        if self._leads_to(_path(block), descriptor):
            self.folder.remove_block(_path(block))


def _path(block: BlockId) -> str:
    name = block.object_name
    return f"{name[:SHARD_DIGITS]}/{name}-{block.index:x}"


def _matches_data(descriptor: int, header: BlockHeader) -> bool:
    checksum, position, end = 0, header.size, header.size + header.length
    while position < end:
        piece = os.pread(descriptor, min(_VERIFY_BYTES, end - position), position)
        if not piece:
            return False
        checksum = crc32(piece, checksum)
        position += len(piece)
    return checksum == header.data_crc32
