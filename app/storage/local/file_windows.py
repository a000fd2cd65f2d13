"""Windows of an open file, for sendfile(2): the bytes of a range without a copy of them in this process.

Sending bytes that are not in the page cache waits for the disk. So a window is looked up in the page cache before it is yielded, and read
in a thread where a part of it is missing. A slow client may take a window after its bytes have left the page cache: the sender asks again.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from app.storage.backend import CHUNK_BYTES, WINDOW_BYTES
from app.storage.errors import ObjectChanged
from app.storage.local.file_reader import READ_AHEAD_BYTES, OpenFile
from app.storage.local.os_errors import translate_os_error
from app.storage.local.syscalls import count_cached_bytes
from app.storage.ranges import ByteRange, FileWindow

LOOKUP_BYTES = 2 * WINDOW_BYTES
"""Bytes that one look at the page cache covers."""
LOOKUP_SECONDS = 0.1
"""How long what was found counts. Pages leave the cache so soon after their use only where memory is exhausted."""


class SendfileSupport:
    """Whether one file system's files can be sent by sendfile(2), as found out with the first file that is in the page cache."""

    __slots__ = ("is_supported",)

    def __init__(self) -> None:
        self.is_supported: bool | None = None

    def check(self, descriptor: int, offset: int) -> bool:
        """Whether the open file can be sent from `offset` on, and the kernel tells this process which of its bytes are in the page
        cache."""
        if self.is_supported is None:
            self.is_supported = _try_sendfile(descriptor, offset)
        return bool(self.is_supported)


class FileWindows:
    """Iterates over the windows of `served`, and is the file that they name. `file` outlives it."""

    __slots__ = ("_cached_end", "_end", "_file", "_looked_up_at", "_offset")

    def __init__(self, file: OpenFile, served: ByteRange) -> None:
        self._file = file
        self._offset, self._end = served.first, served.first + served.length
        self._cached_end = 0
        self._looked_up_at = 0.0

    @property
    def key(self) -> str:
        return self._file.key

    @property
    def backend(self) -> str:
        return self._file.backend

    def fileno(self) -> int:
        return self._file.descriptor

    def __aiter__(self) -> FileWindows:
        return self

    async def __anext__(self) -> FileWindow:
        offset = self._offset
        count = min(WINDOW_BYTES, self._end - offset)
        if count <= 0:
            raise StopAsyncIteration
        if not self.is_cached(offset, count):
            await self.load(offset, count)
        self._offset += count
        return FileWindow(self, offset, count)

    def is_cached(self, offset: int, count: int) -> bool:
        now = time.monotonic()
        if offset + count > self._cached_end or now - self._looked_up_at > LOOKUP_SECONDS:
            looked_up = max(count, min(LOOKUP_BYTES, self._end - offset))
            self._cached_end = offset + count_cached_bytes(self._file.descriptor, offset, looked_up)
            self._looked_up_at = now
        return offset + count <= self._cached_end

    async def load(self, offset: int, count: int) -> None:
        try:
            await self._file.run_in_thread(lambda: self._load_blocking(offset, count))
        except OSError as error:
            raise translate_os_error(error, self.key, self.backend) from error

    def _load_blocking(self, offset: int, count: int) -> None:
        descriptor, end = self._file.descriptor, offset + count
        os.posix_fadvise(descriptor, offset, count + min(READ_AHEAD_BYTES, self._end - end), os.POSIX_FADV_WILLNEED)
        while offset < end:
            data = os.pread(descriptor, min(CHUNK_BYTES, end - offset), offset)
            if not data:
                raise ObjectChanged(self.key, self.backend, f"ends at {offset} bytes now")
            offset += len(data)


def may_look_up(descriptor: int, status: os.stat_result) -> bool:
    """Whether mincore(2) tells this process which bytes of the file are in the page cache, see `count_cached_bytes`."""
    return status.st_uid == os.geteuid() or os.access(f"/proc/self/fd/{descriptor}", os.W_OK, effective_ids=True)


def _try_sendfile(descriptor: int, offset: int) -> bool | None:
    """None where the first byte is not in the page cache."""
    if not count_cached_bytes(descriptor, offset, 1):
        return None
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return os.sendfile(null, descriptor, offset, 1) == 1
        finally:
            os.close(null)
    return False
