"""`ResumableFile`: the temporary file of a resumable write, which outlives its process. Blocks: its methods are called in threads.

Its name tells the key, so that the files of one write are found without a state. A file whose old writer may still run is never
written again by a newer one: the newer writer goes on with a copy, and the late bytes of the old one go to a file without a name.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from contextlib import suppress
from enum import Enum

from app.storage.backend import MAX_CHUNK_BYTES
from app.storage.errors import ObjectExists, ObjectNotFound
from app.storage.key import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, Key
from app.storage.local.file_writer import BACKEND, PendingFile, check_name_free, create_locked_temporary, lock_file
from app.storage.local.os_errors import raise_storage_errors
from app.storage.local.root_folder import RootFolder

_PREFIX = f"{TEMPORARY_PREFIX}resumable-"
_NAME = re.compile(
    rf"{re.escape(_PREFIX)}(?P<segment>.+)\.[0-9a-f]{{12}}{re.escape(TEMPORARY_SUFFIX)}".encode(), re.DOTALL
)
_OPEN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LockOutcome(Enum):
    LOCKED = "locked"
    HELD = "held by another writer"
    UNSUPPORTED = "the file system has no locks"


class ResumableFile(PendingFile):
    """`close` leaves the file to the next append; `abort` removes it; `commit` gives it the object's name. `lock_outcome`: of the last
    attempt to lock the file; `create` locks it."""

    lock_outcome = LockOutcome.LOCKED

    @classmethod
    def create(cls, root_folder: RootFolder, key: Key, size: int | None, fsync: bool) -> ResumableFile:
        """A new, empty, locked file, whose name is durable. Raises `ObjectExists` where the key is taken, `StorageFull`, …"""
        segment = key.segments[-1]

        def make_name() -> bytes:
            return f"{_PREFIX}{segment}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}".encode()

        def create_temporary(folder: int) -> tuple[bytes, int]:
            return create_locked_temporary(folder, make_name, os.O_RDWR)

        file = cls(root_folder, key, size, fsync, None, create_temporary)
        try:
            with raise_storage_errors(key.value, BACKEND, is_write=True):
                check_name_free(file._folder, file._name, key.value)
                file._sync(file._folder)
        except BaseException:
            file.abort()
            raise
        return file

    @classmethod
    def open(cls, root_folder: RootFolder, key: Key, name: str, more_bytes: int, fsync: bool) -> ResumableFile:
        """The file that `create` has made, not locked. `more_bytes` are still to be written. Raises `ObjectNotFound`, `StorageFull`."""

        def open_temporary(folder: int) -> tuple[bytes, int]:
            try:
                descriptor = os.open(name.encode(), _OPEN_FLAGS, dir_fd=folder)
            except FileNotFoundError:
                raise ObjectNotFound(key.value, BACKEND, "the unfinished file is gone") from None
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise ObjectNotFound(key.value, BACKEND, "the unfinished file is no file")
            return name.encode(), descriptor

        return cls(root_folder, key, more_bytes, fsync, None, open_temporary)

    @classmethod
    def open_for_writing(
        cls, root_folder: RootFolder, key: Key, name: str, more_bytes: int, fsync: bool
    ) -> ResumableFile:
        """As `open`, then `try_lock`."""
        file = cls.open(root_folder, key, name, more_bytes, fsync)
        try:
            file.try_lock()
        except BaseException:
            file.close()
            raise
        return file

    @property
    def name(self) -> str:
        return self._temporary.decode()

    def try_lock(self) -> None:
        """Lock the file, if no other writer has it; `lock_outcome` tells."""
        with raise_storage_errors(self._key, BACKEND, is_write=True):
            try:
                is_locked = lock_file(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lock_outcome = LockOutcome.HELD
            else:
                self.lock_outcome = LockOutcome.LOCKED if is_locked else LockOutcome.UNSUPPORTED

    def check_stored(self, size: int) -> None:
        """Raises `ObjectNotFound` where the file has fewer than `size` bytes, or has lost its name."""
        with raise_storage_errors(self._key, BACKEND):
            status = os.fstat(self._descriptor)
            named = os.stat(self._temporary, dir_fd=self._folder, follow_symlinks=False)
        if (status.st_dev, status.st_ino) != (named.st_dev, named.st_ino):
            raise ObjectNotFound(self._key, BACKEND, "the unfinished file is another")
        if status.st_size < size:
            raise ObjectNotFound(self._key, BACKEND, f"the unfinished file lacks {size - status.st_size} stored bytes")

    def continue_at(self, offset: int) -> None:
        self.check_stored(offset)
        self.go_to(offset)

    def go_to(self, offset: int) -> None:
        """Drop what the file has after `offset`, and write there next."""
        with raise_storage_errors(self._key, BACKEND, is_write=True):
            if os.fstat(self._descriptor).st_size > offset:
                os.ftruncate(self._descriptor, offset)
            os.lseek(self._descriptor, offset, os.SEEK_SET)

    def flush_to_disk(self) -> None:
        with raise_storage_errors(self._key, BACKEND, is_write=True):
            self._sync(self._descriptor)

    def copy_some(self, source: ResumableFile, left: int) -> int:
        """Copy up to `left` bytes from the other file's current position; returns how many. Raises `ObjectNotFound` at its end."""
        copied = self.copy_from(source._descriptor, left)
        if not copied:
            raise ObjectNotFound(self._key, BACKEND, f"the unfinished file lacks {left} stored bytes")
        return copied

    def commit(self, size: int, *, replace: bool = False) -> None:
        """As `PendingFile.commit`. Also succeeds where a process that died had committed these bytes."""
        try:
            super().commit(size, replace=replace)
        except ObjectExists:
            with raise_storage_errors(self._key, BACKEND, is_write=True):
                if not self._has_target_same_bytes(size):
                    raise
                self._sync(self._folder)
            self.abort()

    def is_committed(self, size: int) -> bool:
        """Whether the object is there and has the file's first `size` bytes: a process that died has committed a copy."""
        with raise_storage_errors(self._key, BACKEND, is_write=True):
            try:
                return self._has_target_same_bytes(size)
            except FileNotFoundError:
                return False

    def _has_target_same_bytes(self, size: int) -> bool:
        target = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        try:
            status = os.fstat(target)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                return False
            for offset in range(0, size, MAX_CHUNK_BYTES):
                count = min(MAX_CHUNK_BYTES, size - offset)
                if os.pread(self._descriptor, count, offset) != os.pread(target, count, offset):
                    return False
            return True
        finally:
            os.close(target)


def find_target(name: str) -> str | None:
    """The key of the write that a temporary file belongs to; None where it is no file of a resumable write. `name` is relative to the
    root folder."""
    above, slash, last = name.rpartition("/")
    match = _NAME.fullmatch(last.encode())
    return None if match is None else f"{above}{slash}{match['segment'].decode()}"


def remove_files(root_folder: RootFolder, key: Key) -> None:
    """Remove all files of resumable writes of the key. A missing one is no error."""
    above, _, last = key.value.encode().rpartition(b"/")
    with raise_storage_errors(key.value, BACKEND, is_write=True):
        root_folder.check_mounts(key.value, BACKEND)
        try:
            folder = root_folder.open(above)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            with os.scandir(folder) as entries:
                names = [os.fsencode(entry.name) for entry in entries]
            for name in names:
                match = _NAME.fullmatch(name)
                if match is not None and match["segment"] == last:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)


def sync_committed(root_folder: RootFolder, key: Key, size: int, *, fsync: bool) -> None:
    """Check that the object is there with `size` bytes, and make its name durable: the process that gave it may have died before it did.
    Raises `ObjectNotFound`; `ObjectExists` where it has another size."""
    above, _, last = key.value.encode().rpartition(b"/")
    with raise_storage_errors(key.value, BACKEND):
        folder = root_folder.open(above)
        try:
            status = os.stat(last, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                raise ObjectExists(key.value, BACKEND, f"an object of {status.st_size} bytes has the key")
            if fsync:
                os.fsync(folder)
            root_folder.check_open_folder(folder, key.value, BACKEND)
        finally:
            os.close(folder)
