"""Writes objects to a local folder: temporary file, fsync, size check, rename, fsync of the folder.

`PendingFile` does these steps and blocks: its methods are called in threads. `LocalWriter` buffers an object's bytes for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress

from app.storage.backend import MAX_CHUNK_BYTES
from app.storage.digests import UpdateDigest, digesting
from app.storage.errors import InvalidKey, ObjectExists, ObjectIncomplete, ObjectTooLarge, StorageFull
from app.storage.key import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, Key
from app.storage.local.os_errors import raise_storage_errors
from app.storage.local.root_folder import RootFolder
from app.storage.local.syscalls import rename_noreplace, write_all
from app.storage.local.threads import ThreadPool

BACKEND = "local"
WHOLE_BYTES = 8 * 1024 * 1024
"""The largest object that is held in memory until its commit."""

_LOCKS_UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


def make_temporary_name() -> bytes:
    return f"{TEMPORARY_PREFIX}{secrets.token_hex(12)}{TEMPORARY_SUFFIX}".encode()


class PendingFile:
    """A temporary file beside its target, locked (flock) as long as it is open: a sweep removes only unlocked ones, of dead writers."""

    def __init__(
        self,
        root_folder: RootFolder,
        key: Key,
        size: int | None,
        fsync: bool,
        target: bytes | None,
        open_temporary: Callable[[int], tuple[bytes, int]] | None = None,
    ) -> None:
        """`target` replaces the key's last segment as the final name. `open_temporary` takes the folder's descriptor and returns name and
        descriptor of the temporary file; without it, a new one is made. Raises `InvalidKey`, `StorageFull`, …"""
        self._root_folder = root_folder
        self._key = key.value
        self._fsync = fsync
        above, _, name = key.value.encode().rpartition(b"/")
        self._name = target or name
        with raise_storage_errors(self._key, BACKEND, is_write=True):
            root_folder.check_mounts(self._key, BACKEND)
            self._folder = root_folder.make_folder(above)
            try:
                self._check_free_space(size or 0)
                self._temporary, self._descriptor = (open_temporary or create_locked_temporary)(self._folder)
            except BaseException:
                os.close(self._folder)
                raise

    @classmethod
    def create_new(cls, root_folder: RootFolder, key: Key, size: int | None, fsync: bool) -> PendingFile:
        """Raises `ObjectExists` early, before the bytes are written; the rename at the commit decides."""
        pending = cls(root_folder, key, size, fsync, None)
        try:
            with raise_storage_errors(key.value, BACKEND, is_write=True):
                check_name_free(pending._folder, pending._name, key.value)
        except BaseException:
            pending.abort()
            raise
        return pending

    @property
    def is_ended(self) -> bool:
        """Committed or aborted."""
        return self._descriptor < 0

    def write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        with raise_storage_errors(self._key, BACKEND, is_write=True):
            write_all(self._descriptor, pieces)

    def copy_from(self, source: int, length: int) -> int:
        """Copy up to `length` bytes inside the kernel, at the current offsets of both descriptors; 0 at the end of the source."""
        with raise_storage_errors(self._key, BACKEND, is_write=True):
            try:
                return os.copy_file_range(source, self._descriptor, length)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM):
                    raise
                data = os.read(source, min(length, MAX_CHUNK_BYTES))
                self.write([data])
                return len(data)

    def commit(self, size: int, *, replace: bool = False) -> None:
        """Sync the file and rename it to its final name, if it has `size` bytes. Raises `ObjectExists`, unless `replace`. After an error
        the caller calls `abort`.

        The mounts are checked twice: before the rename, so that no file is left hidden below a mount point, and again before the
        commit is acknowledged.
        """
        with raise_storage_errors(self._key, BACKEND, is_write=True):
            self._sync(self._descriptor)
            self._check_size(size)
            self._root_folder.check_open_folder(self._folder, self._key, BACKEND)
            self._rename(replace=replace)
            self._sync(self._folder)
            self._root_folder.check_open_folder(self._folder, self._key, BACKEND)
        self.close()

    def abort(self) -> None:
        """Remove the temporary file. Never raises: a file that cannot be removed now is swept later. Does nothing after a commit."""
        if self.is_ended:
            return
        with suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._folder)
        self.close()

    def close(self) -> None:
        """Close the temporary file, and leave it. Does nothing after a commit or an abort."""
        if self.is_ended:
            return
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        os.close(self._folder)

    def _sync(self, descriptor: int) -> None:
        if self._fsync:
            os.fsync(descriptor)

    def _check_size(self, size: int) -> None:
        stored_size = os.fstat(self._descriptor).st_size
        if stored_size != size:
            raise ObjectIncomplete(self._key, BACKEND, f"{stored_size} of {size} bytes are on disk")

    def _check_free_space(self, size: int) -> None:
        disk = os.fstatvfs(self._folder)
        if size > disk.f_bavail * disk.f_frsize:
            raise StorageFull(self._key, BACKEND, f"no room for {size} bytes")

    def _rename(self, *, replace: bool) -> None:
        if replace:
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            return
        try:
            rename_noreplace(self._folder, self._temporary, self._folder, self._name)
        except FileExistsError:
            check_name_free(self._folder, self._name, self._key)
            raise


class LocalWriter:
    """Buffers small pieces and writes about 1 MiB at a time, so that not every piece costs a call in a thread. A whole object of at most
    `WHOLE_BYTES` is written by one call, at the commit."""

    def __init__(self, create: Callable[[], PendingFile], key: Key, size: int | None, threads: ThreadPool) -> None:
        self._create = create
        self._pending: PendingFile | None = None
        self._key = key
        self._expected = size
        self._threads = threads
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    async def open(self) -> None:
        """Make the temporary file; of a small object, whose size is known, only the commit makes it. Raises `ObjectExists`, `StorageFull`,
        …"""
        if self._expected is None or self._expected > WHOLE_BYTES:
            self._pending = await self._threads.acquire(self._create, PendingFile.abort)

    async def aclose(self) -> None:
        """Remove the temporary file, unless it was committed."""
        if self._pending is not None and not self._pending.is_ended:
            await self._threads.run_uncancelled(self._pending.abort)

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        if not data:
            return
        self._size += len(data)
        if self._expected is not None and self._size > self._expected:
            raise ObjectTooLarge(self._key.value, BACKEND, f"more than the announced {self._expected} bytes")
        if self._pending is not None and not self._pieces and len(data) >= MAX_CHUNK_BYTES:
            # From the caller's buffer, without a copy: `run` returns only when the thread no longer uses it, even when cancelled.
            await self._threads.run(self._digest_and_write, self._pending, memoryview(data), update_digest)
            return
        async with digesting(data, update_digest):
            piece = bytes(data)  # the caller may reuse its buffer; for `bytes` this copies nothing
            self._pieces.append(piece)
            self._buffered_bytes += len(piece)
            if self._pending is not None and self._buffered_bytes >= MAX_CHUNK_BYTES:
                await self._threads.run(self._pending.write, self._take_pieces())

    async def commit(self, *, replace: bool = False) -> None:
        """Runs to its end: a cancellation is raised only after the outcome is decided.

        All bytes passed to `write` must have been written: after a failed or cancelled `write`, `commit` raises `ObjectIncomplete`.
        """
        if self._expected is not None and self._size != self._expected:
            detail = f"{self._size} of the announced {self._expected} bytes"
            raise ObjectIncomplete(self._key.value, BACKEND, detail)
        if self._pending is None:
            await self._threads.run(self._write_whole, self._take_pieces(), replace)
        else:
            await self._threads.run(self._finish, self._pending, self._take_pieces(), replace)

    @staticmethod
    def _digest_and_write(pending: PendingFile, data: memoryview, update_digest: UpdateDigest | None) -> None:
        if update_digest is not None:
            update_digest(data)
        pending.write([data])

    def _write_whole(self, pieces: list[bytes], replace: bool) -> None:
        pending = self._create()
        try:
            self._finish(pending, pieces, replace)
        except BaseException:
            pending.abort()
            raise

    def _finish(self, pending: PendingFile, pieces: list[bytes], replace: bool) -> None:
        if pieces:
            pending.write(pieces)
        pending.commit(self._size, replace=replace)

    def _take_pieces(self) -> list[bytes]:
        pieces, self._pieces, self._buffered_bytes = self._pieces, [], 0
        return pieces


def create_locked_temporary(
    folder: int, make_name: Callable[[], bytes] = make_temporary_name, access: int = os.O_WRONLY
) -> tuple[bytes, int]:
    """Name and descriptor of a new, locked file in the open folder. `access` is the mode in which it is opened."""
    while True:
        name = make_name()
        descriptor = os.open(name, access | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            lock_file(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return name, descriptor
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
            raise
        os.close(descriptor)  # a sweep removed it before it was locked


def lock_file(descriptor: int, operation: int) -> bool:
    """Lock an open file (flock). False where the file system has no locks; `BlockingIOError` where another holds one."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in _LOCKS_UNSUPPORTED:
            raise
        return False
    return True


def check_name_free(folder: int, name: bytes, key: str) -> None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        raise InvalidKey(key, BACKEND, "other objects lie below it")
    raise ObjectExists(key, BACKEND)
