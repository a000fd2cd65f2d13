"""The storage backend for a local folder: one file per object, no other state.

Content types and metadata are taken and not kept: a folder has no place for them, and the catalogue knows them. A deleted object's folder
stays, because another writer may be about to use it. Names that differ only in case are one object where the file system says so.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from datetime import timedelta
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVarTuple

from app.storage.backend import ObjectInfo, ObjectStream, ObjectWriter, Room, StoredChecksum
from app.storage.errors import ListingIncomplete, ObjectNotFound, StorageError, StorageUnavailable
from app.storage.key import Key
from app.storage.local.errnos import translated, typed_errors
from app.storage.local.folders import Folders, Found, Pin
from app.storage.local.held import HeldFiles
from app.storage.local.kernel import read_cached, rename_new
from app.storage.local.reading import (
    OPEN_FLAGS,
    FileRead,
    OpenFile,
    PageCache,
    managed_etag,
    object_info,
    regular_status,
)
from app.storage.local.threads import Threads
from app.storage.local.writing import BACKEND, LocalWriter, PendingFile, refuse_taken, sweep_temporary, temporary_name
from app.storage.ranges import ByteRange

READ_THREADS = 16
WORK_THREADS = 16
"""Apart, so that slow writes and long listings never keep delivery waiting."""

BATCH = 256
"""Files that one turn of a thread looks at or deletes."""

COPY_BYTES = 64 * 1024 * 1024
"""What one turn of a thread copies; between two a cancellation is heard."""

_LOOK_FLAGS = os.O_PATH | os.O_NOFOLLOW if hasattr(os, "O_PATH") else OPEN_FLAGS | os.O_NOFOLLOW

_Arguments = TypeVarTuple("_Arguments")


class LocalBackend:
    """`root` is the media folder; it is made where missing. `fsync=False` gives up surviving a power loss."""

    def __init__(self, root: Path, *, fsync: bool = True) -> None:
        """Blocks for a moment. Raises a `StorageError` where the folder cannot be made or opened."""
        self.root = root.absolute()
        self._fsync = fsync
        with typed_errors(str(root), BACKEND, writing=True):
            self._folders = Folders(self.root, fsync=fsync)
            self._folders.pin_all()
        self._readers = Threads("storage-read", READ_THREADS)
        self._workers = Threads("storage", WORK_THREADS)
        self._cache = PageCache()
        self._held = HeldFiles(lambda descriptor: self._readers.start(os.close, descriptor))

    @property
    def name(self) -> str:
        return BACKEND

    async def exists(self, key: Key) -> bool:
        try:
            await self.head(key)
        except ObjectNotFound:
            return False
        return True

    async def head(self, key: Key) -> ObjectInfo:
        file = await self._open(key, _LOOK_FLAGS)
        try:
            status = regular_status(file)
            return object_info(key.value, status, managed_etag(status))
        finally:
            file.close()

    async def stored_checksum(self, key: Key) -> StoredChecksum | None:
        await self.head(key)
        return None

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return FileRead(
            lambda: self._open(key, OPEN_FLAGS | os.O_NOFOLLOW), managed_etag, byte_range, if_match, pinned=False
        )

    def read_now(self, key: Key, span: ByteRange, size: int) -> bytes | None:
        """From the page cache. Every failure is None: the ordinary way meets it again, and says what it is."""
        length = span.length
        try:
            held = self._held.find(key.value) or self._hold(key.value)
            if held is None or held[1] != size:
                return None
            data = read_cached(held[0], length, span.first)
        except OSError:
            return None
        return data if len(data) == length else None

    @asynccontextmanager
    async def write_stream(
        self,
        key: Key,
        *,
        size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        free: bool = False,
    ) -> AsyncGenerator[ObjectWriter]:
        async with self._kept(PendingFile.of_new, self._folders, key, size, self._fsync) as pending:
            writer = LocalWriter(pending, key, size, self._workers)
            yield writer
            await writer.commit()

    async def put_object(self, key: Key, data: bytes, metadata: Mapping[str, str] | None = None) -> None:
        async with self._kept(PendingFile, self._folders, key, len(data), self._fsync, None) as pending:
            writer = LocalWriter(pending, key, len(data), self._workers)
            await writer.write(data)
            await writer.commit(replace=True)
        self._held.drop(key.value)

    async def copy_object(self, source: Key, target: Key) -> None:
        file = await self._open(source, OPEN_FLAGS | os.O_NOFOLLOW)
        try:
            size = regular_status(file).st_size
            async with self._kept(PendingFile.of_new, self._folders, target, size, self._fsync) as pending:
                while await self._workers.run(pending.copy_from, file.descriptor, COPY_BYTES):
                    pass
                await self._workers.run(pending.commit, size)
        finally:
            file.close()

    async def move_object(self, source: Key, target: Key) -> None:
        """In one step, so the object is always at one of the two places and keeps its etag; a copy only where disks differ."""
        moved = await self._workers.run(self._move, source, target)
        self._held.drop(source.value)
        if not moved:
            await self.copy_object(source, target)
            await self.delete_object(source)

    async def delete_object(self, key: Key) -> None:
        failed = await self.delete_objects([key])
        if failed:
            raise failed[key]

    async def delete_objects(self, keys: Iterable[Key]) -> Mapping[Key, StorageError]:
        failed: dict[Key, StorageError] = {}
        ordered = iter(sorted(set(keys), key=_folder_and_name))
        while batch := list(islice(ordered, BATCH)):
            try:
                failed.update(await self._workers.run(self._delete, batch))
            finally:
                for key in batch:
                    self._held.drop(key.value)
        return failed

    async def list_objects(self, prefix: str = "", start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        below = Key(prefix.rstrip("/")).value if prefix else ""
        refused: list[str] = []
        steps = self._folders.walk(below, start_after, refused)
        while batch := await self._workers.run(_next_batch, steps, below):
            for found in batch:
                if not found.temporary:
                    yield object_info(found.name, found.status, managed_etag(found.status))
        if refused:
            raise ListingIncomplete(refused, BACKEND)

    async def ensure_prefix(self, prefix: str) -> None:
        name = Key(prefix.rstrip("/")).value if prefix else ""
        await self._workers.run(self._make_folder, name)

    async def prune_folders(self) -> int:
        return await self._workers.run(self._prune)

    async def probe(self) -> None:
        """Takes the whole write path, to a reserved name: what a killed probe leaves is no object, and is swept."""
        name = temporary_name()
        key = Key("probe")
        async with self._kept(PendingFile, self._folders, key, len(name), self._fsync, name) as pending:
            await self._workers.run(pending.write, [name])
            await self._workers.run(pending.commit, len(name))
            await self._workers.run(self._read_back, name)

    async def recognise(self, witness: Key, text: bytes) -> None:
        """Looks at what is at the root's path now. A disk that came back is used again from here on; from now on a commit or a delete in
        the witness's folder is refused where the folder or the witness is another file (device and inode) than this one."""
        here, pin = await self._workers.run(self._look_at, witness, text)
        folders = self._folders
        if here.identity == folders.identity:
            moved = folders.keep(pin)
        else:
            moved = here.keep(pin, folders)
            self._folders = here
        if moved:
            self._held.close()

    async def room(self, prefix: str) -> Room | None:
        return await self._workers.run(self._room, prefix)

    async def sweep_leftovers(self, older_than: timedelta) -> int:
        swept = 0
        steps = self._folders.walk("", None, [])  # what may not be looked into has to wait
        while batch := await self._workers.run(_next_batch, steps, ""):
            if any(found.temporary for found in batch):
                swept += await self._workers.run(self._sweep, batch, older_than)
        return swept

    def local_path(self, key: Key) -> Path | None:
        return self.root / key.value

    async def presigned_url(
        self, key: Key, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        return None

    async def aclose(self) -> None:
        self._held.close()
        await self._readers.aclose()
        await self._workers.aclose()
        self._folders.close()

    def _hold(self, name: str) -> tuple[int, int] | None:
        """Descriptor and size of the file, held open from now on; None where that cannot be had at once."""
        if not self._cache.answers or not self._folders.opener.cached:
            return None
        descriptor = self._folders.opener.open_cached(name.encode(), OPEN_FLAGS | os.O_NOFOLLOW)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and self._held.keep(name, descriptor, status.st_size):
            return descriptor, status.st_size
        os.close(descriptor)
        return None

    async def _open(self, key: Key, flags: int) -> OpenFile:
        name = key.value.encode()
        opener = self._folders.opener
        descriptor = -1
        try:
            # Where reads can tell that they would wait, so can opening: both stay on the loop for what is in memory.
            if self._cache.answers and opener.cached:
                with suppress(BlockingIOError):
                    descriptor = opener.open_cached(name, flags)
            if descriptor < 0:
                descriptor = await self._readers.acquire(opener.open, os.close, name, flags)
        except OSError as error:
            raise await self._opening_failed(error, key) from error
        return OpenFile(descriptor, key.value, BACKEND, self._readers, self._cache)

    async def _opening_failed(self, error: OSError, key: Key) -> StorageError:
        failure = translated(error, key.value, BACKEND)
        if isinstance(failure, ObjectNotFound):
            # Not there, or the disk is not there? The second is no reason to forget an object.
            try:
                await self._workers.run(self._folders.check_mounts, key.value, BACKEND)
            except StorageUnavailable as unmounted:
                return unmounted
        return failure

    @asynccontextmanager
    async def _kept(
        self, begin: Callable[[*_Arguments], PendingFile], *arguments: *_Arguments
    ) -> AsyncGenerator[PendingFile]:
        """A temporary file that is gone at the end, however it ends, unless it was committed."""
        pending = await self._workers.acquire(begin, PendingFile.abort, *arguments)
        try:
            yield pending
        finally:
            if not pending.ended:
                await self._workers.finish(pending.abort)

    def _make_folder(self, name: str) -> None:
        with typed_errors(name, BACKEND, writing=True):
            os.close(self._folders.make(name.encode()))

    def _prune(self) -> int:
        with typed_errors(str(self.root), BACKEND):
            return self._folders.prune()

    def _delete(self, keys: list[Key]) -> dict[Key, StorageError]:
        """Each folder is synced once after its files are gone, for the catalogue forgets them next: a file that came back after a power
        loss would be nobody's. Synced also when nothing was there: an earlier delete may have died before it could."""
        failed: dict[Key, StorageError] = {}
        for folder, group in groupby(keys, lambda key: _folder_and_name(key)[0]):
            members = list(group)
            try:
                self._folders.check_mounts(members[0].value, BACKEND)
                failed.update(self._delete_in(folder, members))
            except StorageUnavailable as error:
                failed.update(dict.fromkeys(members, error))
            except OSError as error:
                failed.update({key: translated(error, key.value, BACKEND) for key in members})
        return {key: error for key, error in failed.items() if not isinstance(error, ObjectNotFound)}

    def _delete_in(self, folder: str, keys: list[Key]) -> dict[Key, StorageError]:
        failed: dict[Key, StorageError] = {}
        descriptor = self._folders.open(folder.encode())
        try:
            for key in keys:
                try:
                    os.unlink(_folder_and_name(key)[1].encode(), dir_fd=descriptor)
                except OSError as error:
                    failed[key] = translated(error, key.value, BACKEND)
            if self._fsync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return failed

    def _move(self, source: Key, target: Key) -> bool:
        """False where the two folders lie on different disks."""
        source_folder, source_name = _folder_and_name(source)
        target_folder, target_name = _folder_and_name(target)
        with ExitStack() as opened:
            with typed_errors(source.value, BACKEND):
                left = self._opened(opened, self._folders.open(source_folder.encode()))
                status = os.stat(source_name.encode(), dir_fd=left, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    raise ObjectNotFound(source.value, BACKEND, "not a regular file")
            with typed_errors(target.value, BACKEND, writing=True):
                entered = self._opened(opened, self._folders.make(target_folder.encode()))
                self._folders.check_mounts(target.value, BACKEND)
                refuse_taken(entered, target_name.encode(), target.value)
                if status.st_dev != os.fstat(entered).st_dev:
                    return False
                rename_new(left, source_name.encode(), entered, target_name.encode())
                for folder in (entered, left) if self._fsync else ():
                    os.fsync(folder)
        return True

    @staticmethod
    def _opened(stack: ExitStack, descriptor: int) -> int:
        stack.callback(os.close, descriptor)
        return descriptor

    def _look_at(self, witness: Key, text: bytes) -> tuple[Folders, Pin]:
        with typed_errors(witness.value, BACKEND):
            return self._folders.recognise(witness.value, text, BACKEND)

    def _room(self, prefix: str) -> Room:
        with typed_errors(str(self.root / prefix), BACKEND):
            return self._folders.room(prefix)

    def _read_back(self, name: bytes) -> None:
        folders = self._folders
        with typed_errors(name.decode(), BACKEND):
            descriptor = folders.opener.open(name, OPEN_FLAGS)
            try:
                data = os.read(descriptor, len(name) + 1)
            finally:
                os.close(descriptor)
                os.unlink(name, dir_fd=folders.descriptor)
        if data != name:
            raise StorageUnavailable(name.decode(), BACKEND, "reads back other bytes than were written")

    def _sweep(self, batch: list[Found], older_than: timedelta) -> int:
        now = time.time()
        with typed_errors(str(self.root), BACKEND):
            return sum(
                sweep_temporary(
                    self._folders,
                    found.name.encode(),
                    older_than=older_than,
                    age=timedelta(seconds=now - found.status.st_mtime),
                )
                for found in batch
                if found.temporary
            )


def _next_batch(steps: Iterator[Found], below: str) -> list[Found]:
    with typed_errors(below, BACKEND):
        return list(islice(steps, BATCH))


def _folder_and_name(key: Key) -> tuple[str, str]:
    folder, _, name = key.value.rpartition("/")
    return folder, name
