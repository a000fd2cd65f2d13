"""Read-only access to files that are not ours: an external library's, anywhere on the local disks.

Their owner may change them at any time. A read holds on to the file that it opened, and ends short with `ObjectChanged` when that was
edited meanwhile (device, inode, size or modification time differ at the end).
"""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
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


class ExternalFiles:
    """Takes absolute paths. Links are followed: what a library holds is up to its owner."""

    def __init__(self) -> None:
        self._threads = Threads("external-read", THREADS)
        self._caches = PageCaches()

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
            descriptor = await self._threads.acquire(os.open, os.close, os.fsencode(path), OPEN_FLAGS)
            cache = self._caches.of(os.fstat(descriptor).st_dev)
        except OSError as error:
            raise translated(error, path, EXTERNAL) from error
        return OpenFile(descriptor, path, EXTERNAL, self._threads, cache)
