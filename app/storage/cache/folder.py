"""`CacheFolder`: the cache's folder on the disk, with the number of bytes that all processes of the host keep in it.

Below the configured folder lies `mediavault-blocks`, which only this user may read: the cache holds photos. In it are folders of three
hexadecimal digits with block files, and the files `usage` and `eviction.lock`. All calls block and raise OSError.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.storage.local.file_reader import NowaitSupport

FOLDER_NAME = "mediavault-blocks"
SHARD_DIGITS = 3
TEMPORARY_SUFFIX = ".tmp"
SPACE_UNIT = 4096
"""Files take a multiple of this on most disks."""

_USAGE = struct.Struct("<8sqq")
_USAGE_MAGIC = b"mvusage1"


class CacheFolder:
    """Makes the folder where it is missing.

    The descriptors are closed with the last reference: a call in a thread that nobody waits for any more still uses them, and the number of
    a closed one may be another folder's by then.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / FOLDER_NAME
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _check_owner(self.descriptor)
            self._usage = self._open("usage", os.O_RDWR | os.O_CREAT)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._closer = weakref.finalize(self, _close_all, self._usage, self.descriptor)
        self._closer.atexit = False  # threads may still run then

    def close(self) -> None:
        """For a folder that no thread uses."""
        self._closer()

    @property
    def is_gone(self) -> bool:
        """True where the folder was removed."""
        return os.fstat(self.descriptor).st_nlink == 0

    def never_waits(self) -> bool:
        """True for a file system that tells what is in memory (RWF_NOWAIT), as those of local disks do: a few calls for an open file never
        wait there. On network file systems and FUSE each call may ask a server."""
        return NowaitSupport().detect(self._usage, 0)

    def read_usage(self) -> int | None:
        """Bytes of all blocks; None where they were never counted."""
        content = os.pread(self._usage, _USAGE.size, 0)
        if len(content) < _USAGE.size:
            return None
        magic, total, check = _USAGE.unpack(content)
        return max(0, total) if magic == _USAGE_MAGIC and check == ~total else None

    def add_usage(self, change: int, limit: int | None = None) -> bool:
        """False, without a change, where the sum would be more than `limit`, and before the first `set_usage`."""
        with self._usage_lock():
            total = self.read_usage()
            if total is None or (limit is not None and total + change > limit):
                return False
            self._write_usage(max(0, total + change))
            return True

    def set_usage(self, total: int) -> None:
        with self._usage_lock():
            self._write_usage(total)

    def free_space(self) -> int:
        """Bytes that this process may still write to the disk."""
        found = os.fstatvfs(self.descriptor)
        return found.f_bavail * found.f_frsize

    @contextmanager
    def eviction_lock(self) -> Generator[bool]:
        """Whether this process may evict: one of the host at a time does."""
        lock = self._open("eviction.lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def iter_shards(self) -> Iterator[str]:
        with os.scandir(self.descriptor) as entries:
            for entry in entries:
                if len(entry.name) == SHARD_DIGITS and entry.is_dir(follow_symlinks=False):
                    yield entry.name

    def iter_shard(self, shard: str) -> Iterator[str]:
        """The names of the files in it. Folders in it are not the cache's."""
        try:
            descriptor = os.open(
                shard, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor
            )
        except FileNotFoundError:
            return
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        yield entry.name
        finally:
            os.close(descriptor)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def remove_block(self, name: str) -> int:
        """The bytes that the block took; 0 where it was not there."""
        try:
            size = occupied_bytes(self.stat(name).st_size)
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return 0
        self.add_usage(-size)
        return size

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.descriptor)

    @contextmanager
    def _usage_lock(self) -> Generator[None]:
        # Opened anew: threads that share a descriptor share its lock.
        lock = self._open("usage", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write_usage(self, total: int) -> None:
        os.pwrite(self._usage, _USAGE.pack(_USAGE_MAGIC, total, ~total), 0)


def occupied_bytes(size: int) -> int:
    """The bytes that a file of `size` bytes takes on the disk, about."""
    return -(-size // SPACE_UNIT) * SPACE_UNIT


def _close_all(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _check_owner(descriptor: int) -> None:
    """Whoever may write to the folder could make clients get any bytes."""
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, f"{FOLDER_NAME} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise PermissionError(errno.EACCES, f"other users may write to {FOLDER_NAME}")
