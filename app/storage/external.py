"""Read-only access to files that are not ours: an external library's, anywhere on the local disks.

Their owner may change them at any time. A read holds on to the file that it opened, and ends short with `ObjectChanged` when that was
edited meanwhile (device, inode, size or modification time differ at the end).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NoReturn

from app.storage.backend import ObjectInfo, ObjectStream
from app.storage.errors import ObjectNotFound, StoragePermission
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
from app.storage.local.threads import Threads
from app.storage.ranges import ByteRange

EXTERNAL = "external"
THREADS = 16
_OPEN_FILES = Path("/proc/self/fd")


class ExternalFiles:
    """Takes absolute paths. Links are followed: what a library holds is up to its owner."""

    def __init__(self) -> None:
        self._roots: tuple[str, ...] | None = None
        self._threads = Threads("external-read", THREADS)
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

    def refuse(self, path: str) -> NoReturn:
        """What every write and delete comes to."""
        raise StoragePermission(path, EXTERNAL, "lies outside the media location, where nothing is ever written")

    async def aclose(self) -> None:
        await self._threads.aclose()

    async def _open(self, path: str) -> OpenFile:
        try:
            descriptor = await self._threads.acquire(_open, os.close, path, self._roots)
            cache = self._caches.of(os.fstat(descriptor).st_dev)
        except OSError as error:
            raise translated(error, path, EXTERNAL) from error
        return OpenFile(descriptor, path, EXTERNAL, self._threads, cache)


def _open(path: str, roots: tuple[str, ...] | None) -> int:
    descriptor = os.open(os.fsencode(path), OPEN_FLAGS)
    if roots is not None and not _inside(descriptor, path, roots):
        os.close(descriptor)
        raise OSError(errno.ELOOP, "is a link that leads out of its library")
    return descriptor


def _inside(descriptor: int, path: str, roots: tuple[str, ...]) -> bool:
    """Asks where the open file is, so that nobody can turn a link round between the question and the opening."""
    real = _OPEN_FILES / str(descriptor)
    try:
        opened = os.fsdecode(os.readlink(os.fsencode(real)))  # noqa: PTH115 - bytes: names need not be UTF-8
    except OSError:  # a system without /proc
        opened = os.path.realpath(path)
    root = next((root for root in roots if path.startswith(root + "/")), None)
    return opened == path or (root is not None and opened.startswith(os.path.realpath(root) + "/"))
