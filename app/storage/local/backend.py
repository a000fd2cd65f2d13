"""The storage backend for a local folder: one file per object, no other state.

Content types and metadata are accepted and ignored: the catalogue has them. A deleted object's folder stays, because another writer may
be about to use it. Names that differ only in case are one object on a case-insensitive file system.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVarTuple

from app.storage.backend import (
    CHUNK_BYTES,
    DiskSpace,
    FindKeysInUse,
    ObjectInfo,
    ObjectStream,
    ObjectWriter,
    StoredChecksum,
)
from app.storage.errors import ListingIncomplete, ObjectNotFound, StorageError, StorageUnavailable
from app.storage.key import Key
from app.storage.local.descriptor_cache import DescriptorCache
from app.storage.local.file_reader import (
    OPEN_FLAGS,
    FileReadContext,
    NowaitSupport,
    OpenFile,
    make_object_info,
    managed_etag,
    require_regular_file,
)
from app.storage.local.file_windows import FileWindows, SendfileSupport, may_look_up
from app.storage.local.file_writer import (
    BACKEND,
    LocalWriter,
    PendingFile,
    check_name_free,
    make_temporary_name,
)
from app.storage.local.leftovers import exclude_in_use, find_old, sweep_files
from app.storage.local.os_errors import raise_storage_errors, translate_os_error
from app.storage.local.resumable import LocalResumableWrites
from app.storage.local.root_folder import FolderIdentity, FoundFile, RootFolder
from app.storage.local.syscalls import read_cached, rename_noreplace
from app.storage.local.threads import ThreadPool
from app.storage.ranges import ByteRange

READ_THREADS = 16
WORKER_THREADS = 16
"""A pool apart from the readers, so that slow writes and long listings never delay delivery."""

BATCH_FILES = 256
"""Number of files that one call in a thread lists or deletes."""

COPY_CHUNK_BYTES = 64 * 1024 * 1024
"""Bytes that one call in a thread copies; a cancellation takes effect between two calls."""

_STAT_FLAGS = os.O_PATH | os.O_NOFOLLOW if hasattr(os, "O_PATH") else OPEN_FLAGS | os.O_NOFOLLOW

_Arguments = TypeVarTuple("_Arguments")


class LocalBackend:
    """`root` is the media folder, made where missing. With `fsync=False` a power loss may lose committed objects."""

    def __init__(self, root: Path, *, fsync: bool = True) -> None:
        """Blocks. Raises a `StorageError` where the folder cannot be made or opened."""
        self.root = root.absolute()
        self._fsync = fsync
        with raise_storage_errors(str(root), BACKEND, is_write=True):
            self._root_folder = RootFolder(self.root, fsync=fsync)
            self._root_folder.record_identities()
        self._readers = ThreadPool("storage-read", READ_THREADS)
        self._workers = ThreadPool("storage", WORKER_THREADS)
        self.resumable_writes = LocalResumableWrites(lambda: self._root_folder, self._workers, fsync=fsync)
        self._nowait_support = NowaitSupport()
        self._sendfile_support = SendfileSupport()
        self._descriptors = DescriptorCache(lambda descriptor: self._readers.run_in_background(os.close, descriptor))

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
        file = await self._open(key, _STAT_FLAGS)
        try:
            status = require_regular_file(file)
            return make_object_info(key.value, status, managed_etag(status))
        finally:
            file.close()

    async def stored_checksum(self, key: Key) -> StoredChecksum | None:
        await self.head(key)
        return None

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return FileReadContext(
            lambda: self._open(key, OPEN_FLAGS | os.O_NOFOLLOW),
            managed_etag,
            byte_range,
            if_match,
            check_unchanged=False,
            make_windows=self._make_windows,
        )

    def read_from_memory(self, key: Key, byte_range: ByteRange, size: int) -> bytes | None:
        """Reads from the page cache. Every failure returns None: `read_stream` meets it again, and raises it."""
        length = byte_range.length
        try:
            cached = self._descriptors.get(key.value) or self._open_cached(key.value)
            if cached is None or cached[1] != size:
                return None
            data = read_cached(cached[0], length, byte_range.first)
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
        skip_exists_check: bool = False,
    ) -> AsyncGenerator[ObjectWriter]:
        create = partial(PendingFile.create_new, self._root_folder, key, size, self._fsync)
        async with aclosing(LocalWriter(create, key, size, self._workers)) as writer:
            await writer.open()
            yield writer
            await writer.commit()

    async def put_object(self, key: Key, data: bytes, metadata: Mapping[str, str] | None = None) -> None:
        create = partial(PendingFile, self._root_folder, key, len(data), self._fsync, None)
        async with aclosing(LocalWriter(create, key, len(data), self._workers)) as writer:
            await writer.open()
            await writer.write(data)
            await writer.commit(replace=True)
        self._descriptors.evict(key.value)

    async def copy_object(self, source: Key, target: Key) -> None:
        file = await self._open(source, OPEN_FLAGS | os.O_NOFOLLOW)
        try:
            size = require_regular_file(file).st_size
            async with self._pending_file(
                PendingFile.create_new, self._root_folder, target, size, self._fsync
            ) as pending:
                while await self._workers.run(pending.copy_from, file.descriptor, COPY_CHUNK_BYTES):
                    pass
                await self._workers.run(pending.commit, size)
        finally:
            file.close()

    async def move_object(self, source: Key, target: Key) -> None:
        """An atomic rename, which keeps the etag; copy and delete where the two folders lie on different disks."""
        is_replaced = await self._workers.run(self._move, source, target)
        self._descriptors.evict(source.value)
        if not is_replaced:
            await self.copy_object(source, target)
            await self.delete_object(source)

    async def delete_object(self, key: Key) -> None:
        failed = await self.delete_objects([key])
        if failed:
            raise failed[key]

    async def delete_objects(self, keys: Iterable[Key]) -> Mapping[Key, StorageError]:
        failed: dict[Key, StorageError] = {}
        ordered = iter(sorted(set(keys), key=_folder_and_name))
        while batch := list(islice(ordered, BATCH_FILES)):
            try:
                failed.update(await self._workers.run(self._delete, batch))
            finally:
                for key in batch:
                    self._descriptors.evict(key.value)
        return failed

    async def list_objects(self, prefix: str = "", start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        below = Key(prefix.rstrip("/")).value if prefix else ""
        unlisted_folders: list[str] = []
        walk = self._root_folder.walk_files(below, start_after, unlisted_folders)
        while batch := await self._workers.run(_next_batch, walk, below):
            for file in batch:
                if not file.is_temporary:
                    yield make_object_info(file.name, file.status, managed_etag(file.status))
        if unlisted_folders:
            raise ListingIncomplete(unlisted_folders, BACKEND)

    async def ensure_prefix(self, prefix: str) -> None:
        name = Key(prefix.rstrip("/")).value if prefix else ""
        await self._workers.run(self._make_folder, name)

    async def prune_folders(self) -> int:
        return await self._workers.run(self._prune)

    async def probe(self) -> None:
        """Takes the whole write path with a reserved name: the file that a killed probe leaves is no object, and is swept."""
        name = make_temporary_name()
        key = Key("probe")
        async with self._pending_file(PendingFile, self._root_folder, key, len(name), self._fsync, name) as pending:
            await self._workers.run(pending.write, [name])
            await self._workers.run(pending.commit, len(name))
            await self._workers.run(self._read_back, name)

    async def check_marker(self, marker: Key, text: bytes) -> None:
        """Checks the folder that is at the root's path now, and uses it from now on: a remounted disk has another root folder. Later
        commits and deletes in the marker's folder are refused where the folder or the marker is no longer the same file (device and
        inode)."""
        current, identity = await self._workers.run(self._check_marker, marker, text)
        root_folder = self._root_folder
        if current.inode == root_folder.inode:
            is_replaced = root_folder.set_identity(identity)
        else:
            is_replaced = current.set_identity(identity, root_folder)
            self._root_folder = current
        if is_replaced:
            self._descriptors.close()

    async def disk_space(self, prefix: str) -> DiskSpace | None:
        return await self._workers.run(self._disk_space, prefix)

    async def sweep_leftovers(self, older_than: timedelta, find_in_use: FindKeysInUse | None = None) -> int:
        swept = 0
        walk = self._root_folder.walk_files("", None, [])  # folders that may not be listed are skipped
        while batch := await self._workers.run(_next_batch, walk, ""):
            if leftovers := await exclude_in_use(find_old(batch, older_than), find_in_use):
                swept += await self._workers.run(sweep_files, self._root_folder, leftovers)
        return swept

    def local_path(self, key: Key) -> Path | None:
        return self.root / key.value

    async def presigned_url(
        self, key: Key, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        return None

    async def aclose(self) -> None:
        self._descriptors.close()
        await self._readers.aclose()
        await self._workers.aclose()
        self._root_folder.close()

    def _open_cached(self, name: str) -> tuple[int, int] | None:
        """Opens the file without blocking and caches its descriptor. Returns descriptor and size; None where it would block."""
        if not self._nowait_support.is_supported or not self._root_folder.opener.supports_open_cached:
            return None
        descriptor = self._root_folder.opener.open_cached(name.encode(), OPEN_FLAGS | os.O_NOFOLLOW)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and self._descriptors.add(name, descriptor, status.st_size):
            return descriptor, status.st_size
        os.close(descriptor)
        return None

    async def _open(self, key: Key, flags: int) -> OpenFile:
        name = key.value.encode()
        opener = self._root_folder.opener
        descriptor = -1
        try:
            # Where reads without waiting are supported, so is opening: both stay on the loop for files in memory.
            if self._nowait_support.is_supported and opener.supports_open_cached:
                with suppress(BlockingIOError):
                    descriptor = opener.open_cached(name, flags)
            if descriptor < 0:
                descriptor = await self._readers.acquire(opener.open, os.close, name, flags)
        except OSError as error:
            raise await self._explain_open_error(error, key) from error
        return OpenFile(descriptor, key.value, BACKEND, self._readers, self._nowait_support)

    async def _explain_open_error(self, error: OSError, key: Key) -> StorageError:
        failure = translate_os_error(error, key.value, BACKEND)
        if isinstance(failure, ObjectNotFound):
            # A missing disk must not look like a missing object.
            try:
                await self._workers.run(self._root_folder.check_mounts, key.value, BACKEND)
            except StorageUnavailable as unmounted:
                return unmounted
        return failure

    @asynccontextmanager
    async def _pending_file(
        self, create: Callable[[*_Arguments], PendingFile], *arguments: *_Arguments
    ) -> AsyncGenerator[PendingFile]:
        """A temporary file that is removed at the end unless it was committed."""
        pending = await self._workers.acquire(create, PendingFile.abort, *arguments)
        try:
            yield pending
        finally:
            if not pending.is_ended:
                await self._workers.run_uncancelled(pending.abort)

    def _make_windows(self, file: OpenFile, status: os.stat_result, served: ByteRange) -> FileWindows | None:
        """Only for ranges of more than one chunk, where reads that never wait are supported: on network file systems sendfile(2) may ask
        the server, wherever the bytes are."""
        if served.length <= CHUNK_BYTES or not self._nowait_support.detect(file.descriptor, served.first):
            return None
        if not may_look_up(file.descriptor, status) or not self._sendfile_support.check(file.descriptor, served.first):
            return None
        return FileWindows(file, served)

    def _make_folder(self, name: str) -> None:
        with raise_storage_errors(name, BACKEND, is_write=True):
            os.close(self._root_folder.make_folder(name.encode()))

    def _prune(self) -> int:
        with raise_storage_errors(str(self.root), BACKEND):
            return self._root_folder.prune()

    def _delete(self, keys: list[Key]) -> dict[Key, StorageError]:
        """Syncs each folder once after its files are deleted: the catalogue removes their rows next, and a file that came back after a
        power loss would have no row. Syncs also where no file was there: an earlier delete may have been killed before its sync."""
        failed: dict[Key, StorageError] = {}
        for folder, group in groupby(keys, lambda key: _folder_and_name(key)[0]):
            members = list(group)
            try:
                self._root_folder.check_mounts(members[0].value, BACKEND)
                failed.update(self._delete_in(folder, members))
            except StorageUnavailable as error:
                failed.update(dict.fromkeys(members, error))
            except OSError as error:
                failed.update({key: translate_os_error(error, key.value, BACKEND) for key in members})
        return {key: error for key, error in failed.items() if not isinstance(error, ObjectNotFound)}

    def _delete_in(self, folder: str, keys: list[Key]) -> dict[Key, StorageError]:
        failed: dict[Key, StorageError] = {}
        descriptor = self._root_folder.open(folder.encode())
        try:
            for key in keys:
                try:
                    os.unlink(_folder_and_name(key)[1].encode(), dir_fd=descriptor)
                except OSError as error:
                    failed[key] = translate_os_error(error, key.value, BACKEND)
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
            with raise_storage_errors(source.value, BACKEND):
                source_descriptor = self._close_with(opened, self._root_folder.open(source_folder.encode()))
                status = os.stat(source_name.encode(), dir_fd=source_descriptor, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    raise ObjectNotFound(source.value, BACKEND, "not a regular file")
            with raise_storage_errors(target.value, BACKEND, is_write=True):
                target_descriptor = self._close_with(opened, self._root_folder.make_folder(target_folder.encode()))
                self._root_folder.check_mounts(target.value, BACKEND)
                check_name_free(target_descriptor, target_name.encode(), target.value)
                if status.st_dev != os.fstat(target_descriptor).st_dev:
                    return False
                rename_noreplace(source_descriptor, source_name.encode(), target_descriptor, target_name.encode())
                for folder in (target_descriptor, source_descriptor) if self._fsync else ():
                    os.fsync(folder)
        return True

    @staticmethod
    def _close_with(stack: ExitStack, descriptor: int) -> int:
        stack.callback(os.close, descriptor)
        return descriptor

    def _check_marker(self, marker: Key, text: bytes) -> tuple[RootFolder, FolderIdentity]:
        with raise_storage_errors(marker.value, BACKEND):
            return self._root_folder.check_marker(marker.value, text, BACKEND)

    def _disk_space(self, prefix: str) -> DiskSpace:
        with raise_storage_errors(str(self.root / prefix), BACKEND):
            return self._root_folder.disk_space(prefix)

    def _read_back(self, name: bytes) -> None:
        root_folder = self._root_folder
        with raise_storage_errors(name.decode(), BACKEND):
            descriptor = root_folder.opener.open(name, OPEN_FLAGS)
            try:
                data = os.read(descriptor, len(name) + 1)
            finally:
                os.close(descriptor)
                os.unlink(name, dir_fd=root_folder.descriptor)
        if data != name:
            raise StorageUnavailable(name.decode(), BACKEND, "reads back other bytes than were written")


def _next_batch(walk: Iterator[FoundFile], below: str) -> list[FoundFile]:
    with raise_storage_errors(below, BACKEND):
        return list(islice(walk, BATCH_FILES))


def _folder_and_name(key: Key) -> tuple[str, str]:
    folder, _, name = key.value.rpartition("/")
    return folder, name
