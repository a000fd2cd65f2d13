"""Staging: local files for tools that cannot read from a store, and private folders for what tools write.

Staged bytes are bounded: who asks for more than there is room for waits its turn. A single file that is larger than the whole room is let
in alone, for else it could never be worked on. Everything is gone at the end of its `with`, and what a killed process leaves is swept when
the next one opens the staging folder.
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
from app.storage.checksum import crc32
from app.storage.errors import (
    ObjectChanged,
    ObjectIncomplete,
    ObjectTooLarge,
    StagingFull,
    StorageFull,
    StoragePermission,
)
from app.storage.local.os_errors import raise_storage_errors
from app.storage.local.threads import ThreadPool
from app.storage.process_folder import STAGING, ProcessFolder, sweep_dead_folders

STAGING_THREADS = 8


@dataclass(frozen=True, slots=True)
class StoredDigest:
    """What was stored: `size` in bytes, `sha1` 20 bytes."""

    size: int
    sha1: bytes
    crc32: int


class Staging:
    """`root` is absolute, `limit` in bytes. The process's folder below it is made when it is first needed."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._budget = ByteBudget(limit)
        self._threads = ThreadPool("staging", STAGING_THREADS)
        self._folder: ProcessFolder | None = None
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Sweep what dead processes left, and make this one's folder. Raises a `StorageError` where that cannot be had."""
        await self._threads.run(self._open_process_folder)

    async def check(self) -> None:
        """Raises what keeps files from being staged. A full disk is no fault of the folder: what needs room is tried again."""
        with suppress(StagingFull):
            await self._threads.run(self._try_make_folder)

    @asynccontextmanager
    async def temporary_folder(self) -> AsyncGenerator[Path]:
        """A new empty folder, mode 0700; gone at the end with all that was put into it."""
        path = await self._threads.acquire(self._make_folder, _remove_tree)
        try:
            yield path
        finally:
            await self._threads.run_uncancelled(_remove_tree, path)

    @asynccontextmanager
    async def download(
        self, read: Callable[[], AbstractAsyncContextManager[ObjectStream]], size: int, suffix: str
    ) -> AsyncGenerator[Path]:
        """A file with the bytes of `read`, which is opened once there is room for `size` bytes; `suffix` ends its name.

        Hold one at a time: two that each wait for the other's room would wait for ever. Raises `StagingFull`, `ObjectChanged` where the
        object has another size, and what `read` raises.
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
        """A file with all of `chunks`. Raises `ObjectTooLarge` for more than `max_bytes` bytes, `StagingFull`, and what `chunks` raise."""
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
    ) -> StoredDigest:
        """Hash the file into a writer for its size, which commits at the end; then the file is deleted. Where that fails the file stays."""
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
        """Leaves nothing behind."""
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
    """`limit` bytes, given to those who ask in the order in which they ask."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncGenerator[None]:
        """Waits for `size` bytes; for more than the limit it waits until nobody else has any."""
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
            if not turn.cancelled():  # it came at the same moment
                self._release(size)
            else:
                self._grant_waiting()
            raise

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
    """A file that is being filled. The calls block."""

    def __init__(self, path: Path, size: int) -> None:
        """Raises OSError, and `StagingFull` where it can be told at once."""
        self.path = path
        room = os.statvfs(path.parent)
        if size > room.f_bavail * room.f_frsize:
            raise StagingFull(str(path), STAGING, f"no room for {size} bytes")
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes | memoryview) -> None:
        with _staging_errors(self.path):
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]

    def finish(self, size: int) -> None:
        with _staging_errors(self.path):
            found = os.fstat(self._descriptor).st_size
            self._close()
        if found != size:
            raise ObjectIncomplete(str(self.path), STAGING, f"{found} of {size} bytes are on disk")

    def remove(self) -> None:
        self._close()
        _remove_file(self.path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _OutgoingFile:
    """A tool's output on its way into the store. The calls block."""

    def __init__(self, path: Path) -> None:
        """A tool that was taken over may leave a link to something that is not its own: that is never stored."""
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
        """The next bytes, which are hashed by then; empty at the end."""
        with _staging_errors(self._path):
            data = os.read(self._descriptor, MAX_CHUNK_BYTES)
        self._sha1.update(data)
        self._crc32 = crc32(data, self._crc32)
        return data

    def result(self) -> StoredDigest:
        return StoredDigest(self.size, self._sha1.digest(), self._crc32)

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def _staging_errors(path: Path) -> Generator[None]:
    """Raises typed errors in place of `OSError`s. A full disk here is not a full store: it has room again when others have ended."""
    try:
        with raise_storage_errors(str(path), STAGING, is_write=True):
            yield
    except StagingFull:
        raise
    except StorageFull as error:
        raise StagingFull(error.key, error.backend, error.detail) from error


def _remove_file(path: Path) -> None:
    with suppress(OSError):  # then it goes with the folder
        path.unlink()


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
