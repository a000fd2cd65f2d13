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
from app.storage.local.errnos import typed_errors
from app.storage.local.threads import Threads
from app.storage.process_folder import STAGING, ProcessFolder, sweep_dead

THREADS = 8


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What was stored: `size` in bytes, `sha1` 20 bytes."""

    size: int
    sha1: bytes
    crc32: int


class Staging:
    """`root` is absolute, `limit` in bytes. The process's folder below it is made when it is first needed."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._room = Room(limit)
        self._threads = Threads("staging", THREADS)
        self._folder: ProcessFolder | None = None
        self._guard = threading.Lock()

    async def open(self) -> None:
        """Sweep what dead processes left, and make this one's folder. Raises a `StorageError` where that cannot be had."""
        await self._threads.run(self._home)

    async def check(self) -> None:
        """Raises what keeps files from being staged. A full disk is no fault of the folder: what needs room is tried again."""
        with suppress(StagingFull):
            await self._threads.run(self._try_out)

    @asynccontextmanager
    async def folder(self) -> AsyncGenerator[Path]:
        """A new empty folder, mode 0700; gone at the end with all that was put into it."""
        path = await self._threads.acquire(self._make_folder, _remove_tree)
        try:
            yield path
        finally:
            await self._threads.finish(_remove_tree, path)

    @asynccontextmanager
    async def downloaded(
        self, read: Callable[[], AbstractAsyncContextManager[ObjectStream]], size: int, suffix: str
    ) -> AsyncGenerator[Path]:
        """A file with the bytes of `read`, which is opened once there is room for `size` bytes; `suffix` ends its name.

        Hold one at a time: two that each wait for the other's room would wait for ever. Raises `StagingFull`, `ObjectChanged` where the
        object has another size, and what `read` raises.
        """
        async with self._room.taken(size):
            staged = await self._threads.acquire(self._create, _Staged.remove, size, suffix)
            try:
                async with read() as stream:
                    if stream.info.size != size:
                        raise ObjectChanged(stream.info.key, STAGING, f"holds {stream.info.size} bytes, not {size}")
                    async for chunk in stream.chunks:
                        await self._threads.run(staged.write, chunk)
                await self._threads.run(staged.finish, size)
                yield staged.path
            finally:
                await self._threads.finish(staged.remove)

    @asynccontextmanager
    async def received(self, chunks: AsyncIterator[bytes | memoryview], most: int, suffix: str) -> AsyncGenerator[Path]:
        """A file with all of `chunks`. Raises `ObjectTooLarge` for more than `most` bytes, `StagingFull`, and what `chunks` raise."""
        async with self._room.taken(most):
            staged = await self._threads.acquire(self._create, _Staged.remove, 0, suffix)
            try:
                size = 0
                async for chunk in chunks:
                    size += len(chunk)
                    if size > most:
                        raise ObjectTooLarge(str(staged.path), STAGING, f"more than {most} bytes")
                    await self._threads.run(staged.write, chunk)
                await self._threads.run(staged.finish, size)
                yield staged.path
            finally:
                await self._threads.finish(staged.remove)

    async def send(
        self, temp: Path, open_writer: Callable[[int], AbstractAsyncContextManager[ObjectWriter]]
    ) -> Uploaded:
        """Hash the file into a writer for its size, which commits at the end; then the file is deleted. Where that fails the file stays."""
        outgoing = await self._threads.acquire(_Outgoing, _Outgoing.close, temp)
        try:
            async with open_writer(outgoing.size) as writer:
                while data := await self._threads.run(outgoing.read):
                    await writer.write(data)
        finally:
            await self._threads.finish(outgoing.close)
        await self._threads.finish(_remove_file, temp)
        return outgoing.uploaded()

    async def aclose(self) -> None:
        """Leaves nothing behind."""
        await self._threads.finish(self._leave)
        await self._threads.aclose()

    def _home(self) -> Path:
        with self._guard, _staging_errors(self._root):
            if self._folder is not None and not self._folder.intact:
                self._folder.remove()
                self._folder = None
            if self._folder is None:
                sweep_dead(self._root)
                self._folder = ProcessFolder(self._root)
            return self._folder.path

    def _leave(self) -> None:
        with self._guard:
            if self._folder is not None:
                self._folder.remove()
                self._folder = None

    def _try_out(self) -> None:
        with _staging_errors(self._root):
            self._make_folder().rmdir()

    def _make_folder(self) -> Path:
        with _staging_errors(self._root):
            return Path(tempfile.mkdtemp(dir=self._home()))

    def _create(self, size: int, suffix: str) -> _Staged:
        path = self._home() / f"{secrets.token_hex(8)}{suffix}"
        with _staging_errors(path):
            return _Staged(path, size)


class Room:
    """`limit` bytes, given to those who ask in the order in which they ask."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncGenerator[None]:
        """Waits for `size` bytes; for more than the limit it waits until nobody else has any."""
        await self._take(size)
        try:
            yield
        finally:
            self._give_back(size)

    async def _take(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came at the same moment
                self._give_back(size)
            else:
                self._admit()
            raise

    def _give_back(self, size: int) -> None:
        self._used -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if self._used and self._used + size > self._limit:
                    return
                self._used += size
                turn.set_result(None)
            self._waiting.popleft()


class _Staged:
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


class _Outgoing:
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

    def uploaded(self) -> Uploaded:
        return Uploaded(self.size, self._sha1.digest(), self._crc32)

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def _staging_errors(path: Path) -> Generator[None]:
    """Raises typed errors in place of `OSError`s. A full disk here is not a full store: it has room again when others have ended."""
    try:
        with typed_errors(str(path), STAGING, writing=True):
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
