"""Staging: downloads objects to local temporary files for tools that cannot read from S3, and makes temporary folders for their output.

The total size of staged files is limited: a caller that would exceed the limit waits its turn. A single file larger than the limit is
admitted alone, because it could never be processed otherwise. Each file and folder is removed at the end of its `with`. Files of a killed
process are removed when the next process opens the staging folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.storage.backend import MAX_CHUNK_BYTES, ObjectStream, ObjectWriter
from app.storage.crc32 import crc32
from app.storage.errors import (
    ObjectChanged,
    ObjectIncomplete,
    ObjectTooLarge,
    StagingFull,
    StorageFull,
    StoragePermission,
)
from app.storage.local.os_errors import raise_storage_errors
from app.storage.local.syscalls import write_all
from app.storage.local.threads import ThreadPool
from app.storage.process_folder import STAGING, ProcessFolder, sweep_dead_folders

STAGING_THREADS = 8


@dataclass(frozen=True, slots=True)
class StoredContent:
    """Size and checksums of a stored file: `size` in bytes, `sha1` as 20 bytes."""

    size: int
    sha1: bytes
    crc32: int


class Staging:
    """`root` is absolute, `limit` in bytes. The folder of this process below `root` is made when it is first needed."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._budget = ByteBudget(limit)
        self._threads = ThreadPool("staging", STAGING_THREADS)
        self._folder: ProcessFolder | None = None
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        return self._budget.used

    async def open(self) -> None:
        """Remove the folders of dead processes, and make that of this process. Raises a `StorageError` where that fails."""
        await self._threads.run(self._open_process_folder)

    async def check(self) -> None:
        """Raises a `StorageError` where no file can be staged. A full disk raises nothing: work that needs room is tried again."""
        with suppress(StagingFull):
            await self._threads.run(self._try_make_folder)

    @asynccontextmanager
    async def temporary_folder(self) -> AsyncGenerator[Path]:
        """A new empty folder, mode 0700; removed at the end with its content."""
        path = await self._threads.acquire(self._make_folder, _remove_tree)
        try:
            yield path
        finally:
            await self._threads.run_uncancelled(_remove_tree, path)

    @asynccontextmanager
    async def download(
        self, read: Callable[[], AbstractAsyncContextManager[ObjectStream]], size: int, suffix: str
    ) -> AsyncGenerator[Path]:
        """Yields a file with the bytes of `read`, which is called once there is room for `size` bytes. The file's name ends in `suffix`.

        A task may hold only one: two tasks that each hold a file and wait for room would deadlock. Raises `StagingFull`,
        `ObjectChanged` where the object has another size, and the errors of `read`.
        """
        async with self._budget.reserve(size):
            staged = await self._threads.acquire(self._create, _StagedFile.remove, size, suffix)
            try:
                async with read() as stream:
                    if stream.info.size != size:
                        raise ObjectChanged(stream.info.key, STAGING, f"holds {stream.info.size} bytes, not {size}")
                    async for chunk in stream.chunks:
                        await self._threads.run(staged.write, chunk)
                await self._threads.run(staged.finish, size)
                yield staged.path
            finally:
                await self._threads.run_uncancelled(staged.remove)

    @asynccontextmanager
    async def receive(
        self, chunks: AsyncIterator[bytes | memoryview], max_bytes: int, suffix: str
    ) -> AsyncGenerator[Path]:
        """Yields a file with all of `chunks`. Raises `ObjectTooLarge` for more than `max_bytes` bytes, `StagingFull`, and the errors
        of `chunks`."""
        async with self._budget.reserve(max_bytes):
            staged = await self._threads.acquire(self._create, _StagedFile.remove, 0, suffix)
            try:
                size = 0
                async for chunk in chunks:
                    size += len(chunk)
                    if size > max_bytes:
                        raise ObjectTooLarge(str(staged.path), STAGING, f"more than {max_bytes} bytes")
                    await self._threads.run(staged.write, chunk)
                await self._threads.run(staged.finish, size)
                yield staged.path
            finally:
                await self._threads.run_uncancelled(staged.remove)

    async def upload(
        self, file: Path, open_writer: Callable[[int], AbstractAsyncContextManager[ObjectWriter]]
    ) -> StoredContent:
        """Hash `file` while writing it to the writer that `open_writer` opens for its size, then delete it. After a failure the file
        stays."""
        outgoing = await self._threads.acquire(_OutgoingFile, _OutgoingFile.close, file)
        try:
            async with open_writer(outgoing.size) as writer:
                while data := await self._threads.run(outgoing.read):
                    await writer.write(data)
        finally:
            await self._threads.run_uncancelled(outgoing.close)
        await self._threads.run_uncancelled(_remove_file, file)
        return outgoing.result()

    async def aclose(self) -> None:
        """Removes the folder of this process."""
        await self._threads.run_uncancelled(self._remove_process_folder)
        await self._threads.aclose()

    def _open_process_folder(self) -> Path:
        with self._lock, _staging_errors(self._root):
            if self._folder is not None and not self._folder.is_intact:
                self._folder.remove()
                self._folder = None
            if self._folder is None:
                sweep_dead_folders(self._root)
                self._folder = ProcessFolder(self._root)
            return self._folder.path

    def _remove_process_folder(self) -> None:
        with self._lock:
            if self._folder is not None:
                self._folder.remove()
                self._folder = None

    def _try_make_folder(self) -> None:
        with _staging_errors(self._root):
            self._make_folder().rmdir()

    def _make_folder(self) -> Path:
        with _staging_errors(self._root):
            return Path(tempfile.mkdtemp(dir=self._open_process_folder()))

    def _create(self, size: int, suffix: str) -> _StagedFile:
        path = self._open_process_folder() / f"{secrets.token_hex(8)}{suffix}"
        with _staging_errors(path):
            return _StagedFile(path, size)


class ByteBudget:
    """`limit` bytes, reserved in first-in, first-out order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncGenerator[None]:
        """Waits until `size` bytes are free; for more than the limit, until nothing else is reserved."""
        await self._acquire(size)
        try:
            yield
        finally:
            self._release(size)

    async def _acquire(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._grant_waiting()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # granted at the same moment
                self._release(size)
            else:
                self._grant_waiting()
            raise

    @property
    def used(self) -> int:
        """Reserved bytes."""
        return self._used

    def _release(self, size: int) -> None:
        self._used -= size
        self._grant_waiting()

    def _grant_waiting(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if self._used and self._used + size > self._limit:
                    return
                self._used += size
                turn.set_result(None)
            self._waiting.popleft()


class _StagedFile:
    """A staged file that is being written. Methods block."""

    def __init__(self, path: Path, size: int) -> None:
        """Raises OSError, and `StagingFull` where the disk already has less than `size` bytes free."""
        self.path = path
        disk = os.statvfs(path.parent)
        if size > disk.f_bavail * disk.f_frsize:
            raise StagingFull(str(path), STAGING, f"no room for {size} bytes")
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes | memoryview) -> None:
        with _staging_errors(self.path):
            write_all(self._descriptor, [data])

    def finish(self, size: int) -> None:
        with _staging_errors(self.path):
            stored_size = os.fstat(self._descriptor).st_size
            self._close()
        if stored_size != size:
            raise ObjectIncomplete(str(self.path), STAGING, f"{stored_size} of {size} bytes are on disk")

    def remove(self) -> None:
        self._close()
        _remove_file(self.path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _OutgoingFile:
    """The output file of a tool, hashed while it is read. Methods block."""

    def __init__(self, path: Path) -> None:
        """Raises `StoragePermission` for anything but a regular file with one name: a compromised tool could leave a link to a
        file that it may not read, which must never be stored."""
        self._path = path
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._crc32 = 0
        with _staging_errors(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            status = os.fstat(self._descriptor)
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            self.close()
            raise StoragePermission(str(path), STAGING, "is no file of its own")

    def read(self) -> bytes:
        """Reads and hashes the next bytes; empty at the end."""
        with _staging_errors(self._path):
            data = os.read(self._descriptor, MAX_CHUNK_BYTES)
        self._sha1.update(data)
        self._crc32 = crc32(data, self._crc32)
        return data

    def result(self) -> StoredContent:
        return StoredContent(self.size, self._sha1.digest(), self._crc32)

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def _staging_errors(path: Path) -> Generator[None]:
    """Raises `StorageError`s in place of `OSError`s. A full disk raises `StagingFull`, which is retryable: other tasks free their files
    when they end."""
    try:
        with raise_storage_errors(str(path), STAGING, is_write=True):
            yield
    except StagingFull:
        raise
    except StorageFull as error:
        raise StagingFull(error.key, error.backend, error.detail) from error


def _remove_file(path: Path) -> None:
    with suppress(OSError):  # removed later with the folder
        path.unlink()


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
