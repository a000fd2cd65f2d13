"""Read-only access to files that are not ours, anywhere on the local disks: those of external libraries, and foreign files.

Their owner may change them at any time. Links in libraries are followed, below their roots; links in foreign paths never. A read keeps its
file open, and raises `ObjectChanged` before the last chunk when the file was edited meanwhile (device, inode, size or modification time
differ).

A disk may hang, as a network share does when its server is unreachable. Each import path and each foreign root has its own threads. A call
that takes longer than `CALL_TIMEOUT_SECONDS` raises `StorageUnavailable`; while `MAX_STUCK_CALLS` calls hang, further calls for the same
import path fail at once. Other libraries are not affected.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NoReturn

from app.storage.backend import ObjectInfo, ObjectStream
from app.storage.errors import ObjectChanged, ObjectNotFound, StoragePermission, StorageUnavailable
from app.storage.local.file_reader import (
    OPEN_FLAGS,
    FileReadContext,
    NowaitSupportByDevice,
    OpenFile,
    external_etag,
    make_object_info,
    require_regular_file,
)
from app.storage.local.os_errors import translate_os_error
from app.storage.local.syscalls import open_without_links
from app.storage.local.threads import TimeoutThreadPool
from app.storage.ranges import ByteRange

EXTERNAL = "external"
THREADS_PER_IMPORT_PATH = 16
CALL_TIMEOUT_SECONDS = 12.0
"""A disk that spins up takes ten seconds."""
MAX_STUCK_CALLS = 4
_ROOT_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PROC_SELF_FD = Path("/proc/self/fd")
"""Opening a descriptor's entry here opens the same file again, whatever happened to its path (proc(5))."""


class ExternalFiles:
    """Takes absolute paths. Symbolic links in libraries are followed: their owner decides what a library contains."""

    def __init__(self) -> None:
        self._roots: tuple[str, ...] | None = None
        self._foreign_roots: tuple[str, ...] = ()
        self._threads: dict[str, TimeoutThreadPool] = {}
        self._nowait_support = NowaitSupportByDevice()

    def set_link_roots(self, roots: Iterable[str]) -> None:
        """From now on a link is followed only to files below the same root: otherwise whoever may write to a library could make a link
        to any file of this machine and have it served. A path below no root is not opened. Before this call all links are followed."""
        self._roots = tuple(roots)

    def set_foreign_roots(self, roots: Iterable[str]) -> None:
        """From now on paths below these folders are those of foreign files: no link in them is followed. While such a folder is
        missing or empty, its files raise `StorageUnavailable`: a disk is not mounted."""
        self._foreign_roots = tuple(root.rstrip("/") for root in roots)

    def is_foreign(self, path: str) -> bool:
        """True for a path below a foreign root, and for the root."""
        return any(path == root or path.startswith(root + "/") for root in self._foreign_roots)

    def find_foreign_root(self, path: str) -> str | None:
        return _find_root(path, self._foreign_roots)

    async def check_foreign_root(self, root: str) -> None:
        """Raises `StorageUnavailable` where the folder is missing, empty or does not answer."""
        threads = self._find_threads(f"{root}/")
        try:
            await threads.wait(threads.submit(_check_foreign_root, root))
        except OSError as error:
            raise translate_os_error(error, root, EXTERNAL) from error

    async def exists(self, path: str) -> bool:
        try:
            await self.head(path)
        except ObjectNotFound:
            return False
        return True

    async def head(self, path: str) -> ObjectInfo:
        file = await self._open(path)
        try:
            status = require_regular_file(file)
            return make_object_info(path, status, external_etag(status))
        finally:
            file.close()

    def read_stream(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Without windows: sendfile(2) hands on pages of the file, not copies. An edit in place, after the last check and before the client
        has received them, would change the bytes that it gets."""
        return FileReadContext(lambda: self._open(path), external_etag, byte_range, if_match, check_unchanged=True)

    @asynccontextmanager
    async def open_descriptor_path(self, path: str, size: int | None = None) -> AsyncGenerator[Path]:
        """Opens `path`, and yields a path of the open descriptor, which cannot be redirected to another file (see `_PROC_SELF_FD`). `size`
        is the expected size in bytes. Raises `ObjectChanged` where the size differs, and the errors of `head`."""
        file = await self._open(path)
        try:
            status = require_regular_file(file)
            if size not in (None, status.st_size):
                raise ObjectChanged(path, EXTERNAL, f"holds {status.st_size} bytes, not {size}")
            yield _PROC_SELF_FD / str(file.descriptor)
        finally:
            file.close()

    def refuse_write(self, path: str) -> NoReturn:
        """Raises `StoragePermission`, for every write and delete."""
        if self.is_foreign(path):
            raise StoragePermission(path, EXTERNAL, "lies in a foreign folder, where nothing is ever written")
        raise StoragePermission(path, EXTERNAL, "lies outside the media location, where nothing is ever written")

    async def aclose(self) -> None:
        await asyncio.gather(*(threads.aclose() for threads in self._threads.values()))

    async def _open(self, path: str) -> OpenFile:
        threads = self._find_threads(path)
        foreign_root = _find_root(path, self._foreign_roots)
        try:
            if foreign_root is not None:
                descriptor, status = await threads.acquire(_open_foreign, _close, path, foreign_root)
            else:
                descriptor, status = await threads.acquire(_open, _close, path, self._roots)
        except OSError as error:
            raise translate_os_error(error, path, EXTERNAL) from error
        return OpenFile(descriptor, path, EXTERNAL, threads, self._nowait_support.get(status.st_dev), status)

    def _find_threads(self, path: str) -> TimeoutThreadPool:
        root = _find_root(path, (*self._foreign_roots, *(self._roots or ()))) or ""
        threads = self._threads.get(root)
        if threads is None:
            threads = TimeoutThreadPool("external-read", THREADS_PER_IMPORT_PATH, CALL_TIMEOUT_SECONDS, MAX_STUCK_CALLS)
            self._threads[root] = threads
        return threads


def _open(path: str, roots: tuple[str, ...] | None) -> tuple[int, os.stat_result]:
    descriptor = os.open(os.fsencode(path), OPEN_FLAGS)
    try:
        if roots is not None and not _is_inside_root(descriptor, path, roots):
            raise OSError(errno.ELOOP, "lies in no library, or is a link that leads out of its library")
        return descriptor, os.fstat(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _check_foreign_root(root: str) -> None:
    folder = _open_foreign_root(root, root)
    try:
        if _is_empty(folder):
            raise StorageUnavailable(root, EXTERNAL, "is empty: it is not mounted")
    finally:
        os.close(folder)


def _open_foreign_root(root: str, path: str) -> int:
    try:
        return os.open(os.fsencode(root), _ROOT_FLAGS)
    except OSError as error:
        raise StorageUnavailable(path, EXTERNAL, f"{root} is not mounted: {error.strerror}") from error


def _open_foreign(path: str, root: str) -> tuple[int, os.stat_result]:
    """Raises `StorageUnavailable` where the root is not mounted, and `OSError`."""
    folder = _open_foreign_root(root, path)
    try:
        try:
            descriptor = open_without_links(folder, os.fsencode(path[len(root) + 1 :]), OPEN_FLAGS)
        except FileNotFoundError as error:
            if _is_empty(folder):
                raise StorageUnavailable(path, EXTERNAL, f"{root} is empty: it is not mounted") from error
            raise
    finally:
        os.close(folder)
    try:
        return descriptor, os.fstat(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _is_empty(folder: int) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _close(opened: tuple[int, os.stat_result]) -> None:
    os.close(opened[0])


def _find_root(path: str, roots: Iterable[str]) -> str | None:
    return next((root for root in roots if path.startswith(root + "/")), None)


def _is_inside_root(descriptor: int, path: str, roots: tuple[str, ...]) -> bool:
    """Checks the path of the open descriptor, so that a link cannot be replaced between the check and the opening."""
    real = _PROC_SELF_FD / str(descriptor)
    try:
        opened = os.fsdecode(os.readlink(os.fsencode(real)))  # noqa: PTH115 - bytes: names need not be UTF-8
    except OSError:  # a system without /proc
        opened = os.path.realpath(path)
    root = _find_root(path, roots)
    return root is not None and (opened == path or opened.startswith(os.path.realpath(root) + "/"))
