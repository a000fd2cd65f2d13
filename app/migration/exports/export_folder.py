"""`ExportFolder`: writes exported files into a folder: never over another file, never through a link, each whole or not at all.

All calls block: they are made in threads, and a descriptor is closed only when no thread uses it any more.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from app.migration.copy_check import ContentHasher, RecordedChecksums
from app.storage.backend import MAX_CHUNK_BYTES
from app.storage.local.syscalls import open_without_links, rename_noreplace

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PRIVATE = 0o600


class ExportFolder:
    """`root` must exist. Names of folders and files are single path segments."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable_folders: set[str] = set()

    def holds(self, folder: str, name: str, recorded: RecordedChecksums) -> bool | None:
        """Whether the file has the recorded bytes; None where there is no such name."""
        try:
            with self._open_folder(folder) as parent:
                descriptor = open_without_links(parent, os.fsencode(name), os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError:
            return False  # a link, or no file: the name is taken
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != recorded.size:
                return False
            return _hash(descriptor).matches(recorded)
        finally:
            os.close(descriptor)

    def open_part(self, folder: str, part: str) -> int:
        """A descriptor of an empty file, which a former export may have left unfinished. Raises `OSError`."""
        with self._open_folder(folder, create=True) as parent:
            return os.open(part, _NEW_FLAGS, _PRIVATE, dir_fd=parent)

    def publish(self, folder: str, part: str, name: str) -> bool:
        """Give the finished file its name. Returns False where the name is taken; the file then keeps the name `part`."""
        with self._open_folder(folder) as parent:
            try:
                rename_noreplace(parent, os.fsencode(part), parent, os.fsencode(name))
            except FileExistsError:
                return False
            os.fsync(parent)
            return True

    def remove_part(self, folder: str, part: str) -> None:
        with suppress(OSError), self._open_folder(folder) as parent:
            os.unlink(part, dir_fd=parent)

    def _make_durable(self, root: int, folder: str) -> None:
        """Also of a folder that is there already: an export that was killed may have made it."""
        with suppress(FileExistsError):
            os.mkdir(folder, dir_fd=root)
        if folder not in self._durable_folders:
            os.fsync(root)
            self._durable_folders.add(folder)

    @contextmanager
    def _open_folder(self, folder: str, *, create: bool = False) -> Iterator[int]:
        root = os.open(self._root, _FOLDER_FLAGS)
        try:
            descriptor = root
            if folder:
                if create:
                    self._make_durable(root, folder)
                descriptor = os.open(folder, _FOLDER_FLAGS, dir_fd=root)
            try:
                yield descriptor
            finally:
                if descriptor != root:
                    os.close(descriptor)
        finally:
            os.close(root)


def finish_part(descriptor: int, modified: datetime) -> None:
    """Make the bytes durable, with the date. A date that the file system cannot keep is left out."""
    nanoseconds = (modified - _EPOCH) // (datetime.resolution) * 1000
    with suppress(OSError, OverflowError):
        os.utime(descriptor, ns=(nanoseconds, nanoseconds))
    os.fsync(descriptor)


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _hash(descriptor: int) -> ContentHasher:
    digest = ContentHasher()
    while chunk := os.read(descriptor, MAX_CHUNK_BYTES):
        digest.update(chunk)
    return digest
