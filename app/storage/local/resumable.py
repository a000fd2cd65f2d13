"""`LocalResumableWrites`: resumable writes to a local folder. The bytes lie in one temporary file (see `ResumableFile`) that the commit
renames.

One writer at a time holds the file's lock. Before a newcomer writes, it confirms under the lock, by `save`, that it is the newest: the
writer before it may have been stopped at any instruction and may go on later. Where the lock is not free soon, or the file system has
none, the newcomer goes on with a copy of the durable bytes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from app.storage.backend import MAX_CHUNK_BYTES
from app.storage.digests import UpdateDigest, digesting
from app.storage.errors import ObjectIncomplete, ObjectNotFound, ObjectTooLarge, StorageError
from app.storage.key import Key
from app.storage.local.file_writer import BACKEND
from app.storage.local.resumable_file import LockOutcome, ResumableFile, remove_files, sync_committed
from app.storage.local.root_folder import RootFolder
from app.storage.local.threads import ThreadPool
from app.storage.resumable import ResumableAppender, ResumableWriteState, SaveState

LOCK_SECONDS = 2.0
"""How long a newcomer waits for an older writer, which ends within a second of being superseded, unless it is stopped or hangs."""
_LOCK_PAUSE_SECONDS = 0.05
_COPY_BYTES = 64 * 1024 * 1024


class LocalResumableWrites:
    """`get_root_folder` returns the root folder in use; see `LocalBackend.check_marker`."""

    def __init__(self, get_root_folder: Callable[[], RootFolder], threads: ThreadPool, *, fsync: bool) -> None:
        self._get_root_folder = get_root_folder
        self._threads = threads
        self._fsync = fsync

    async def begin(self, key: Key, *, size: int | None, content_type: str | None) -> ResumableWriteState:
        file = await self._threads.acquire(
            ResumableFile.create, ResumableFile.abort, self._get_root_folder(), key, size, self._fsync
        )
        await self._threads.run_uncancelled(file.close)
        return _make_state(file, 0)

    @asynccontextmanager
    async def append(
        self, key: Key, state: ResumableWriteState, *, size: int | None, save: SaveState, is_contested: bool
    ) -> AsyncGenerator[ResumableAppender]:
        async with self._opened_files() as opened:
            try:
                file = await self._open(opened, key, state, max(0, (size or 0) - state.offset))
            except ObjectNotFound:
                await save(state)  # raises where the file is gone because a newcomer goes on with a copy
                raise
            if await self._may_write(file, is_contested=is_contested):
                await save(state)
            else:
                replaced, file = file, await self._copy(opened, file, key, state.offset)
                # Where this fails it is not known which name is saved: both files stay, and the commit or abort removes the other.
                await save(_make_state(file, state.offset))
                await self._threads.run_uncancelled(replaced.abort)
            yield LocalAppender(file, key, state.offset, size, save, self._threads)

    async def commit(self, key: Key, state: ResumableWriteState, size: int, *, is_contested: bool = False) -> None:
        if state.offset != size:
            raise ObjectIncomplete(key.value, BACKEND, f"{state.offset} of {size} bytes are durable")
        async with self._opened_files() as opened:
            try:
                file = await self._open(opened, key, state, 0)
                if not await self._may_write(file, is_contested=is_contested):
                    if await self._threads.run(file.is_committed, size):
                        await self._threads.run(_finish_commit, self._get_root_folder(), key, size, self._fsync)
                        return
                    file = await self._copy(opened, file, key, size)
                await self._threads.run(self._commit, file, key, size)
            except ObjectNotFound as error:
                await self._check_committed(key, size, error)

    async def abort(self, key: Key, state: ResumableWriteState | None) -> None:
        await self._threads.run(remove_files, self._get_root_folder(), key)

    async def check(self, key: Key, state: ResumableWriteState) -> None:
        async with self._opened_files() as opened:
            try:
                file = await self._open(opened, key, state, 0)
                await self._threads.run(file.check_stored, state.offset)
            except ObjectNotFound as error:
                await self._check_committed(key, state.offset, error)

    @asynccontextmanager
    async def _opened_files(self) -> AsyncGenerator[list[ResumableFile]]:
        """A list whose files are closed at the end."""
        opened: list[ResumableFile] = []
        try:
            yield opened
        finally:
            for file in opened:
                await self._threads.run_uncancelled(file.close)

    async def _open(
        self, opened: list[ResumableFile], key: Key, state: ResumableWriteState, more_bytes: int
    ) -> ResumableFile:
        """The write's file. `_may_write` tells whether it could be locked."""
        name = str(json.loads(state.value)["file"])
        file = await self._threads.acquire(
            ResumableFile.open_for_writing,
            ResumableFile.close,
            self._get_root_folder(),
            key,
            name,
            more_bytes,
            self._fsync,
        )
        opened.append(file)
        return file

    async def _copy(self, opened: list[ResumableFile], source: ResumableFile, key: Key, size: int) -> ResumableFile:
        """A new, locked, durable file with the first `size` bytes of `source`."""
        copy = await self._threads.acquire(
            ResumableFile.create, ResumableFile.abort, self._get_root_folder(), key, size, self._fsync
        )
        opened.append(copy)
        try:
            left = size
            while left:
                left -= await self._threads.run(copy.copy_some, source, min(left, _COPY_BYTES))
            await self._threads.run(copy.flush_to_disk)
        except BaseException:
            await self._threads.run_uncancelled(copy.abort)
            raise
        return copy

    async def _may_write(self, file: ResumableFile, *, is_contested: bool) -> bool:
        """Whether no older writer can still write to the file, after waiting for one that is about to end."""
        end = time.monotonic() + LOCK_SECONDS
        while file.lock_outcome is LockOutcome.HELD:
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(_LOCK_PAUSE_SECONDS)
            await self._threads.run(file.try_lock)
        return file.lock_outcome is LockOutcome.LOCKED or not is_contested

    def _commit(self, file: ResumableFile, key: Key, size: int) -> None:
        file.check_stored(size)
        file.go_to(size)
        file.commit(size)
        remove_files(self._get_root_folder(), key)

    async def _check_committed(self, key: Key, size: int, error: ObjectNotFound) -> None:
        """Raises `error` unless the object is there."""
        try:
            await self._threads.run(_finish_commit, self._get_root_folder(), key, size, self._fsync)
        except ObjectNotFound:
            raise error from None


class LocalAppender:
    """Buffers small pieces and writes about 1 MiB at a time. A thread that has begun to write is waited for, so `offset` is right
    also after a cancellation."""

    def __init__(
        self, file: ResumableFile, key: Key, offset: int, size: int | None, save: SaveState, threads: ThreadPool
    ) -> None:
        self._file = file
        self._key = key
        self._durable_offset = offset
        self._size = size
        self._save = save
        self._threads = threads
        self._offset = offset
        self._is_positioned = False
        """Whether the file has been checked, and cut to the durable bytes: that goes with the first write."""
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._failure: StorageError | None = None

    @property
    def offset(self) -> int:
        return self._offset

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        if self._failure is not None:
            raise self._failure
        count = data.nbytes if isinstance(data, memoryview) else len(data)
        if self._size is not None and self._offset + count > self._size:
            raise ObjectTooLarge(self._key.value, BACKEND, f"more than the announced {self._size} bytes")
        self._offset += count
        if not self._pieces and count >= MAX_CHUNK_BYTES:
            # From the caller's buffer, without a copy: returns only when the thread no longer uses it, even when cancelled.
            await self._threads.run_uncancelled(self._digest_and_write, memoryview(data), update_digest)
        elif count:
            async with digesting(data, update_digest):
                self._pieces.append(bytes(data))  # the caller may reuse its buffer; for `bytes` this copies nothing
                self._buffered_bytes += count
                if self._buffered_bytes >= MAX_CHUNK_BYTES:
                    await self._threads.run_uncancelled(self._write, self._take_pieces())

    async def checkpoint(self) -> None:
        offset = self._offset
        await self._threads.run_uncancelled(self._flush, self._take_pieces())
        await self._save(_make_state(self._file, offset))
        self._durable_offset = offset

    async def discard(self) -> None:
        self._take_pieces()
        self._offset = self._durable_offset
        await self._threads.run_uncancelled(self._discard)

    def _discard(self) -> None:
        self._position()
        self._file.go_to(self._durable_offset)

    def _position(self) -> None:
        if not self._is_positioned:
            self._file.continue_at(self._durable_offset)
            self._is_positioned = True

    def _digest_and_write(self, data: memoryview, update_digest: UpdateDigest | None) -> None:
        if update_digest is not None:
            update_digest(data)
        self._write([data])

    def _write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Records the error: a cancelled caller does not see it."""
        try:
            self._position()
            self._file.write(pieces)
        except StorageError as error:
            self._failure = error
            raise

    def _flush(self, pieces: list[bytes]) -> None:
        if self._failure is not None:
            raise self._failure
        if pieces:
            self._write(pieces)
        self._position()
        self._file.flush_to_disk()

    def _take_pieces(self) -> list[bytes]:
        pieces, self._pieces, self._buffered_bytes = self._pieces, [], 0
        return pieces


def _finish_commit(root_folder: RootFolder, key: Key, size: int, fsync: bool) -> None:
    sync_committed(root_folder, key, size, fsync=fsync)
    remove_files(root_folder, key)


def _make_state(file: ResumableFile, offset: int) -> ResumableWriteState:
    return ResumableWriteState(json.dumps({"offset": offset, "file": file.name}))
