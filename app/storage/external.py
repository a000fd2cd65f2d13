"""Read-only access to files that are not ours: an external library's, anywhere on the local disks.

Their owner may change them at any time. A read holds on to the file that it opened, and ends short with `ObjectChanged` when that was
edited meanwhile (device, inode, size or modification time differ at the end).

A disk may hang, as a network share does whose server is away. Each import path has threads of its own, no call is waited for longer than
`ANSWER_SECONDS`, and where several have not returned further ones fail at once: as `StorageUnavailable`, and without harm to other libraries.
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
from app.storage.errors import ObjectChanged, ObjectNotFound, StoragePermission
from app.storage.local.errnos import translated
from app.storage.local.reading import (
    OPEN_FLAGS,
    FileRead,
    OpenFile,
    PageCaches,
    external_etag,
    object_info,
    regular_status,
)
from app.storage.local.threads import PatientThreads
from app.storage.ranges import ByteRange

EXTERNAL = "external"
THREADS = 16
"""For each import path."""
ANSWER_SECONDS = 12.0
"""A disk that spins up takes ten."""
MOST_STUCK = 4
_OPEN_FILES = Path("/proc/self/fd")
"""By its name here an open file is opened anew, whatever has become of its path (proc(5))."""


class ExternalFiles:
    """Takes absolute paths. Links are followed: what a library holds is up to its owner."""

    def __init__(self) -> None:
        self._roots: tuple[str, ...] | None = None
        self._threads: dict[str, PatientThreads] = {}
        self._caches = PageCaches()

    def confine(self, roots: Iterable[str]) -> None:
        """From now on links are followed only to what lies below the same one of these folders: whoever may write there could else make a
        link to any file of this machine and have it served. Without this call all links are followed."""
        self._roots = tuple(roots)

    async def exists(self, path: str) -> bool:
        try:
            await self.head(path)
        except ObjectNotFound:
            return False
        return True

    async def head(self, path: str) -> ObjectInfo:
        file = await self._open(path)
        try:
            status = regular_status(file)
            return object_info(path, status, external_etag(status))
        finally:
            file.close()

    def read_stream(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return FileRead(lambda: self._open(path), external_etag, byte_range, if_match, pinned=True)

    @asynccontextmanager
    async def opened(self, path: str, size: int | None = None) -> AsyncGenerator[Path]:
        """The file that `path` leads to now, under a name that leads to no other one later (see `_OPEN_FILES`). `size` is the expected
        one, in bytes. Raises `ObjectChanged` for another, and what `head` raises."""
        file = await self._open(path)
        try:
            status = regular_status(file)
            if size not in (None, status.st_size):
                raise ObjectChanged(path, EXTERNAL, f"holds {status.st_size} bytes, not {size}")
            yield _OPEN_FILES / str(file.descriptor)
        finally:
            file.close()

    def refuse(self, path: str) -> NoReturn:
        """What every write and delete comes to."""
        raise StoragePermission(path, EXTERNAL, "lies outside the media location, where nothing is ever written")

    async def aclose(self) -> None:
        await asyncio.gather(*(threads.aclose() for threads in self._threads.values()))

    async def _open(self, path: str) -> OpenFile:
        threads = self._threads_of(path)
        try:
            descriptor, status = await threads.acquire(_open, _close, path, self._roots)
        except OSError as error:
            raise translated(error, path, EXTERNAL) from error
        return OpenFile(descriptor, path, EXTERNAL, threads, self._caches.of(status.st_dev), status)

    def _threads_of(self, path: str) -> PatientThreads:
        root = _root_of(path, self._roots or ()) or ""
        threads = self._threads.get(root)
        if threads is None:
            threads = PatientThreads("external-read", THREADS, ANSWER_SECONDS, MOST_STUCK)
            self._threads[root] = threads
        return threads


def _open(path: str, roots: tuple[str, ...] | None) -> tuple[int, os.stat_result]:
    descriptor = os.open(os.fsencode(path), OPEN_FLAGS)
    try:
        if roots is not None and not _inside(descriptor, path, roots):
            raise OSError(errno.ELOOP, "is a link that leads out of its library")
        return descriptor, os.fstat(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _close(opened: tuple[int, os.stat_result]) -> None:
    os.close(opened[0])


def _root_of(path: str, roots: Iterable[str]) -> str | None:
    return next((root for root in roots if path.startswith(root + "/")), None)


def _inside(descriptor: int, path: str, roots: tuple[str, ...]) -> bool:
    """Asks where the open file is, so that nobody can turn a link round between the question and the opening."""
    real = _OPEN_FILES / str(descriptor)
    try:
        opened = os.fsdecode(os.readlink(os.fsencode(real)))  # noqa: PTH115 - bytes: names need not be UTF-8
    except OSError:  # a system without /proc
        opened = os.path.realpath(path)
    root = _root_of(path, roots)
    return opened == path or (root is not None and opened.startswith(os.path.realpath(root) + "/"))
