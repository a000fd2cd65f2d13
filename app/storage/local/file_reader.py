"""Reads regular files: from the page cache on the event loop's thread, otherwise in a pool's thread.

Used for managed and external files. External files are checked again before the last chunk, because their owner may edit them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TypeVar

from app.storage.backend import CHUNK_BYTES, ObjectInfo, ObjectStream
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable, StorageError
from app.storage.local.os_errors import translate_os_error
from app.storage.local.syscalls import RWF_NOWAIT, read_cached
from app.storage.local.threads import ThreadPool
from app.storage.ranges import ByteRange, FileWindow

OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Opening never blocks on a FIFO, and never makes a terminal the controlling one."""

READ_AHEAD_BYTES = 2 * 1024 * 1024
"""Bytes of read-ahead that are requested (posix_fadvise) after a chunk came from the disk."""

_MAX_DEVICES = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NS = 2**63 - 1
_WRAP = 1 << 64
_Result = TypeVar("_Result")
_NOWAIT_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


def make_object_info(key: str, status: os.stat_result, etag: str) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, datetime_from_ns(modification_time_ns(status)), etag)


def modification_time_ns(status: os.stat_result) -> int:
    """When the file was modified, in nanoseconds since 1970, clamped to 64 bits (years 1678 to 2261). File systems may hold times outside
    (wrong clocks, unpacked archives); the catalogue cannot."""
    return max(-_MAX_NS - 1, min(status.st_mtime_ns, _MAX_NS))


def to_signed_inode(status: os.stat_result) -> int:
    """The inode as a signed 64-bit number, which is what the catalogue can store. File systems over others, such as mergerfs, use all 64
    bits."""
    return status.st_ino if status.st_ino < _WRAP >> 1 else status.st_ino - _WRAP


def datetime_from_ns(nanoseconds: int) -> datetime:
    """Aware UTC, to the microsecond, for a value of `modification_time_ns`."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def managed_etag(status: os.stat_result) -> str:
    """Equal etags mean equal bytes: a managed file is written once, and each write makes a new inode."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def external_etag(status: os.stat_result) -> str:
    """As `managed_etag`, with the device: external files lie on several devices."""
    return f"{status.st_dev:x}-{managed_etag(status)}"


class NowaitSupport:
    """Whether one file system supports reads that never wait (RWF_NOWAIT), as found out by the first read."""

    __slots__ = ("is_supported",)

    def __init__(self) -> None:
        self.is_supported: bool | None = None if RWF_NOWAIT else False
        """None before the first read. False on tmpfs and most network file systems, whose calls may take long."""

    def detect(self, descriptor: int, offset: int) -> bool:
        """Whether it is supported; reads a byte to find out."""
        if self.is_supported is None:
            try:
                read_cached(descriptor, 1, offset)
            except BlockingIOError:
                self.is_supported = True
            except OSError as error:
                if error.errno not in _NOWAIT_UNSUPPORTED:
                    return False  # the file's own error, which a read meets again
                self.is_supported = False
            else:
                self.is_supported = True
        return self.is_supported


class NowaitSupportByDevice:
    """A `NowaitSupport` for each device."""

    def __init__(self) -> None:
        self._by_device: dict[int, NowaitSupport] = {}

    def get(self, device: int) -> NowaitSupport:
        if len(self._by_device) > _MAX_DEVICES:
            self._by_device.clear()
        return self._by_device.setdefault(device, NowaitSupport())


class OpenFile:
    """An open file, and the iterator over the bytes to be served. When `close` is called while a thread reads, the descriptor is closed
    only after the thread has ended its read."""

    __slots__ = (
        "_closed",
        "_descriptor",
        "_end",
        "_etag",
        "_first_status",
        "_in_thread",
        "_make_etag",
        "_nowait_support",
        "_offset",
        "_threads",
        "backend",
        "key",
    )

    def __init__(
        self,
        descriptor: int,
        key: str,
        backend: str,
        threads: ThreadPool,
        nowait_support: NowaitSupport,
        status: os.stat_result | None = None,
    ) -> None:
        """`status` is that of the open file, where it is already known."""
        self.key = key
        self.backend = backend
        self._descriptor = descriptor
        self._threads = threads
        self._nowait_support = nowait_support
        self._first_status = status
        self._offset = self._end = 0
        self._make_etag: Callable[[os.stat_result], str] | None = None
        self._etag = ""
        self._in_thread = self._closed = False

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def status(self) -> os.stat_result:
        """The file's status at its opening or shortly after."""
        return self._first_status or os.fstat(self._descriptor)

    def serve_range(self, served: ByteRange, make_etag: Callable[[os.stat_result], str] | None, etag: str) -> OpenFile:
        """From now on iterate over `served`. With `make_etag` the etag is compared with `etag` again before the last chunk is yielded, so
        that the transfer of a file that was edited meanwhile fails."""
        self._offset, self._end = served.first, served.first + served.length
        self._make_etag = make_etag
        self._etag = etag
        return self

    def close(self) -> None:
        self._closed = True
        if self._in_thread or self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        if self._nowait_support.is_supported:
            os.close(descriptor)
        else:
            self._threads.run_in_background(os.close, descriptor)  # may wait for a server (FUSE, network shares)

    def __aiter__(self) -> OpenFile:
        return self

    async def __anext__(self) -> bytes:
        if self._offset >= self._end:
            raise StopAsyncIteration
        if self._closed:
            raise StorageError(self.key, self.backend, "the read is closed")
        try:
            chunk = self._read_from_memory()
            if chunk is None:
                chunk, changed = await self.run_in_thread(self._read_blocking)
            else:
                changed = self._is_changed(len(chunk))
            self._offset += len(chunk)
        except OSError as error:
            raise translate_os_error(error, self.key, self.backend) from error
        if not chunk:
            raise ObjectChanged(self.key, self.backend, f"ends at {self._offset} bytes now")
        if changed:
            raise ObjectChanged(self.key, self.backend, "was changed while it was read")
        return chunk

    def _is_changed(self, length: int) -> bool:
        """Checked with the last chunk only; `length` is that of the current chunk."""
        if self._make_etag is None or self._offset + length < self._end:
            return False
        return self._make_etag(os.fstat(self._descriptor)) != self._etag

    def _read_from_memory(self) -> bytes | None:
        """The next chunk from the page cache; None where the read would wait."""
        nowait_support = self._nowait_support
        if nowait_support.is_supported is False:
            return None
        try:
            chunk = read_cached(self._descriptor, min(CHUNK_BYTES, self._end - self._offset), self._offset)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _NOWAIT_UNSUPPORTED:
                raise
            nowait_support.is_supported = False
            return None
        nowait_support.is_supported = True
        return chunk

    async def run_in_thread(self, function: Callable[[], _Result]) -> _Result:
        """Call `function`, which reads the descriptor, in a thread. Raises its exceptions, and the errors of `ThreadPool.wait`."""
        self._in_thread = True
        call = None
        try:
            call = self._threads.submit(function)
            return await self._threads.wait(call)
        finally:
            if call is None or call.done():
                self._on_thread_left()
            else:
                loop = asyncio.get_running_loop()
                call.add_done_callback(lambda _: _call_on_loop(loop, self._on_thread_left))

    def _on_thread_left(self) -> None:
        self._in_thread = False
        if self._closed:
            self.close()

    def _read_blocking(self) -> tuple[bytes, bool]:
        """The next chunk, and whether the file was changed since the read began."""
        chunk = os.pread(self._descriptor, min(CHUNK_BYTES, self._end - self._offset), self._offset)
        after = self._offset + len(chunk)
        if self._nowait_support.is_supported and after < self._end:
            os.posix_fadvise(self._descriptor, after, min(READ_AHEAD_BYTES, self._end - after), os.POSIX_FADV_WILLNEED)
        return chunk, self._is_changed(len(chunk))


def _call_on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the process ends
        loop.call_soon_threadsafe(callback)


def require_regular_file(file: OpenFile) -> os.stat_result:
    """Returns the file's status. Raises `ObjectNotFound` for folders, links, FIFOs and devices."""
    status = file.status()
    if not stat.S_ISREG(status.st_mode):
        raise ObjectNotFound(file.key, file.backend, "not a regular file")
    return status


MakeWindows = Callable[[OpenFile, os.stat_result, ByteRange], AsyncIterator[FileWindow] | None]


class FileReadContext:
    """The context manager that `read_stream` returns. `open_file` opens the file, `make_etag` makes its etag. With `check_unchanged` the
    etag is checked again before the last chunk. `make_windows` makes the stream's windows; without it, it has none."""

    __slots__ = ("_check_unchanged", "_file", "_if_match", "_make_etag", "_make_windows", "_open_file", "_range")

    def __init__(
        self,
        open_file: Callable[[], Awaitable[OpenFile]],
        make_etag: Callable[[os.stat_result], str],
        byte_range: ByteRange | None,
        if_match: str | None,
        *,
        check_unchanged: bool,
        make_windows: MakeWindows | None = None,
    ) -> None:
        self._open_file = open_file
        self._make_etag = make_etag
        self._range = byte_range
        self._if_match = if_match
        self._check_unchanged = check_unchanged
        self._make_windows = make_windows
        self._file: OpenFile | None = None

    async def __aenter__(self) -> ObjectStream:
        file = self._file = await self._open_file()
        try:
            return self._stream(file, require_regular_file(file))
        except BaseException:
            file.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _stream(self, file: OpenFile, status: os.stat_result) -> ObjectStream:
        info = make_object_info(file.key, status, self._make_etag(status))
        if self._if_match is not None and self._if_match != info.etag:
            raise ObjectChanged(file.key, file.backend, "not the version that was asked for")
        if info.size == 0 and self._range is None:
            return ObjectStream(info, None, file)
        served = (self._range or ByteRange(0)).clamp(info.size)
        if served is None:
            raise RangeNotSatisfiable(file.key, file.backend, info.size)
        windows = None if self._make_windows is None else self._make_windows(file, status, served)
        chunks = file.serve_range(served, self._make_etag if self._check_unchanged else None, info.etag)
        return ObjectStream(info, served, chunks, windows)
