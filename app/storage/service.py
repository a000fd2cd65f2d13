"""`StorageService`: reads and writes files by the paths that the catalogue stores, and routes each path to its backend.

A path below the media location, or below the local media folder that was in use before a move to S3, is managed. Every other local path is
external and read-only, and so is every path below a foreign root, wherever that lies. Both managed locations stay usable while a move is in
progress.
"""

from __future__ import annotations

import asyncio
import copy
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Protocol

from app.config import StorageEngine
from app.storage.backend import FindKeysInUse, ObjectInfo, ObjectStream, ObjectWriter, StorageBackend
from app.storage.errors import (
    InvalidKey,
    ListingIncomplete,
    ObjectChanged,
    ObjectNotFound,
    StorageError,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.external import EXTERNAL, ExternalFiles
from app.storage.foreign_reads import FindCopy, ForeignReads, Place
from app.storage.key import Key
from app.storage.local.os_errors import raise_storage_errors
from app.storage.path import BucketPaths, LocalPaths, check_local_path, is_s3_uri, parse_s3_uri
from app.storage.process_folder import STAGING
from app.storage.ranges import ByteRange
from app.storage.resumable_files import ManagedObject, ResumableFiles, WriteCounts, find_by_path
from app.storage.staging import Staging, StoredContent

PATH_CACHE_SIZE = 4096


class ReadCounter(Protocol):
    """Counts the bytes of reads by where they are read. `is_s3`: in the bucket, or in its cache."""

    def count(
        self, opened: AbstractAsyncContextManager[ObjectStream], *, is_s3: bool
    ) -> AbstractAsyncContextManager[ObjectStream]: ...

    def count_from_memory(self, size: int, *, is_s3: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class StorageLocation:
    """One of the two locations of managed files: the local media folder, or the bucket prefix."""

    engine: StorageEngine
    backend: StorageBackend
    paths: LocalPaths | BucketPaths


class StorageService:
    """Methods raise only `StorageError`s; `InvalidKey` for a malformed path."""

    def __init__(
        self,
        *,
        local: StorageBackend | None,
        media_root: Path | None,
        s3: StorageBackend | None,
        bucket: str | None,
        prefix: str,
        engine: StorageEngine,
        staging: Staging,
        prefers_copies: bool = False,
        s3_cache: StorageBackend | None = None,
    ) -> None:
        """`media_root` is absolute, and given also where the folder is missing (`local` is None). `prefix` is part of the paths in the
        bucket, not of the backend's keys. `prefers_copies`: read foreign files from their copies first, where they have one. `s3_cache`:
        the same store, read through a cache. The service closes the other backends and the staging."""
        self.engine = engine
        self.staging = staging
        self._counts = WriteCounts()
        self._local = local
        self._s3 = s3
        self.s3_cache = s3_cache
        self._local_paths = LocalPaths(str(media_root)) if media_root else None
        self._bucket_paths = BucketPaths(bucket, prefix) if bucket else None
        self._external = ExternalFiles()
        self._foreign = ForeignReads(prefers_copies=prefers_copies)
        self._read_counter: ReadCounter | None = None
        primary = (local, self._local_paths) if engine is StorageEngine.LOCAL else (s3, self._bucket_paths)
        if primary[0] is None or primary[1] is None:
            raise ValueError(f"the engine is {engine}, but it has no backend")
        self.primary_backend: StorageBackend = primary[0]
        self._primary_paths: LocalPaths | BucketPaths = primary[1]
        # A path's backend and key never change; resolving them would be a quarter of the cost of a small read.
        self._resolve = lru_cache(PATH_CACHE_SIZE)(self._resolve_path)
        self._path_caches = [self._resolve]
        """Of this service and its views."""
        self.resumable = ResumableFiles(self._resolve_writable, self._counts)

    @property
    def failed_writes(self) -> int:
        """Number of writes that a backend failed (full, no permission, unavailable)."""
        return self._counts.failed

    @property
    def s3_writes(self) -> int:
        """Number of writes committed to the bucket."""
        return self._counts.in_s3

    def managed_path(self, key: Key) -> str:
        """The path of a new file in the primary location, as the catalogue stores it."""
        return self._primary_paths.to_path(key)

    def is_managed_path(self, path: str) -> bool:
        """True for paths below either managed location and no foreign root; only these may be written and deleted."""
        if self._external.is_foreign(path):
            return False
        return any(area is not None and area.contains(path) for area in (self._local_paths, self._bucket_paths))

    def managed_path_prefixes(self) -> list[str]:
        """The path prefixes of managed files, that of the engine in use first."""
        areas = (self._local_paths, self._bucket_paths)
        return [
            area.path_prefix for area in sorted(filter(None, areas), key=lambda area: area is not self._primary_paths)
        ]

    def find_location(self, engine: StorageEngine) -> StorageLocation | None:
        """None where the settings name no such location, or its folder is missing."""
        backend, area = (
            (self._local, self._local_paths) if engine is StorageEngine.LOCAL else (self._s3, self._bucket_paths)
        )
        return None if backend is None or area is None else StorageLocation(engine, backend, area)

    def set_external_link_roots(self, roots: Iterable[str]) -> None:
        """See `ExternalFiles.set_link_roots`. `roots` are the import paths of all libraries."""
        self._external.set_link_roots(roots)

    def set_foreign_roots(self, roots: Iterable[str]) -> None:
        """See `ExternalFiles.set_foreign_roots`. Nothing below these folders is written, renamed or deleted."""
        self._external.set_foreign_roots(roots)
        for resolve in self._path_caches:
            resolve.cache_clear()

    def set_copy_lookup(self, find_copy: FindCopy) -> None:
        """From now on foreign files are also read from the copies that `find_copy` knows."""
        self._foreign.find_copy = find_copy

    def find_foreign_root(self, path: str) -> str | None:
        """The foreign root that the path lies below; None where there is none."""
        return self._external.find_foreign_root(path)

    async def check_foreign_root(self, root: str) -> None:
        """Raises `StorageUnavailable` where the folder is not mounted or does not answer."""
        await self._external.check_foreign_root(root)

    async def exists(self, path: str) -> bool:
        managed = self._resolve(path)
        return await (managed.backend.exists(managed.key) if managed else self._external.exists(path))

    async def stat(self, path: str) -> ObjectInfo:
        """Raises `ObjectNotFound`."""
        managed = self._resolve(path)
        if managed is None and self._external.is_foreign(path):
            return await self._foreign.stat(self._foreign_place(path), self._copy_place, self._head_place)
        return await (managed.backend.head(managed.key) if managed else self._external.head(path))

    def read(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """See `StorageBackend.read_stream`."""
        managed = self._resolve(path)
        if managed is None and self._external.is_foreign(path) and not self._foreign.is_known_uncopied(path):
            return self._foreign.read(self._foreign_place(path), self._copy_place, byte_range, if_match)
        if managed is None:
            opened = self._external.read_stream(path, byte_range, if_match)
        else:
            opened = managed.backend.read_stream(managed.key, byte_range, if_match)
        return self._wrap(opened, is_s3=managed is not None and managed.backend is self._s3)

    def _wrap(
        self, opened: AbstractAsyncContextManager[ObjectStream], *, is_s3: bool
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return opened if self._read_counter is None else self._read_counter.count(opened, is_s3=is_s3)

    def _foreign_place(self, path: str) -> Place:
        def open_read(
            path: str, byte_range: ByteRange | None, if_match: str | None
        ) -> AbstractAsyncContextManager[ObjectStream]:
            return self._wrap(self._external.read_stream(path, byte_range, if_match), is_s3=False)

        return Place(self._external.find_foreign_root(path) or path, path, open_read, is_copy=False)

    def _copy_place(self, path: str) -> Place:
        return Place("copies", path, self.read, is_copy=True)

    async def _head_place(self, place: Place) -> ObjectInfo:
        is_source = self._external.is_foreign(place.path)
        return await (self._external.head(place.path) if is_source else self.stat(place.path))

    def read_foreign_source(
        self, path: str, byte_range: ByteRange | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """As `read`, of a foreign file where it lies, never of its copy. Raises `StoragePermission` for another path."""
        if self._external.find_foreign_root(path) is None:
            raise StoragePermission(path, EXTERNAL, "lies below no foreign root")
        return self._external.read_stream(path, byte_range)

    async def stat_foreign_source(self, path: str) -> ObjectInfo:
        """As `stat`, of a foreign file where it lies, never of its copy."""
        return await self._external.head(path)

    def with_read_cache(self) -> StorageService:
        """The same storage, which reads from S3 through the cache, if there is one. Only the original is to be closed."""
        if self.s3_cache is None:
            return self
        view = copy.copy(self)
        view._s3 = self.s3_cache  # noqa: SLF001 - of this class
        view._resolve = lru_cache(PATH_CACHE_SIZE)(view._resolve_path)  # noqa: SLF001
        self._path_caches.append(view._resolve)  # noqa: SLF001
        return view

    def with_counted_reads(self, counter: ReadCounter) -> StorageService:
        """The same storage, whose reads are counted. Only the original is to be closed."""
        view = copy.copy(self)
        view._read_counter = counter  # noqa: SLF001 - of this class
        return view

    def may_read_from_memory(self, path: str) -> bool:
        """False where `read_from_memory` never returns any: for external files, and in a store that is read without a cache."""
        managed = self._resolve(path)
        return managed is not None and (managed.backend is not self._s3 or self._s3 is self.s3_cache)

    def read_from_memory(self, path: str, byte_range: ByteRange, size: int) -> bytes | None:
        """See `StorageBackend.read_from_memory`; always None for external files, which may change while they are read."""
        managed = self._resolve(path)
        data = None if managed is None else managed.backend.read_from_memory(managed.key, byte_range, size)
        if data is not None and managed is not None and self._read_counter is not None:
            self._read_counter.count_from_memory(len(data), is_s3=managed.backend is self._s3)
        return data

    def write(
        self,
        path: str,
        *,
        size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[ObjectWriter]:
        """See `StorageBackend.write_stream`. Raises `StoragePermission` for external paths."""
        managed = self._resolve_writable(path)
        write = managed.backend.write_stream(managed.key, size=size, content_type=content_type, metadata=metadata)
        return self._count_write(write, in_s3=managed.backend is self._s3)

    @asynccontextmanager
    async def _count_write(
        self, write: AbstractAsyncContextManager[ObjectWriter], *, in_s3: bool
    ) -> AsyncGenerator[ObjectWriter]:
        """Counts failed writes, and those that the bucket committed."""
        with self._counts.count_failure():
            async with write as writer:
                yield writer
        if in_s3:
            self._counts.in_s3 += 1

    async def copy(self, source: str, target: str) -> None:
        """Within one backend the store copies; between two backends the bytes pass through this process. Raises `ObjectNotFound`,
        `ObjectExists`, …"""
        target_object = self._resolve_writable(target)
        source_object = self._resolve(source)
        if source_object is not None and source_object.backend is target_object.backend:
            await target_object.backend.copy_object(source_object.key, target_object.key)
            return
        async with (
            self.read(source) as stream,
            target_object.backend.write_stream(target_object.key, size=stream.info.size) as writer,
        ):
            async for chunk in stream.chunks:
                await writer.write(chunk)

    async def rename(self, source: str, target: str) -> None:
        """Copies, then deletes the source; atomic where both paths lie on one disk."""
        source_object, target_object = self._resolve_writable(source), self._resolve_writable(target)
        if source_object.backend is target_object.backend:
            await target_object.backend.move_object(source_object.key, target_object.key)
        else:
            await self.copy(source, target)
            await source_object.backend.delete_object(source_object.key)

    async def unlink(self, path: str) -> None:
        """Idempotent: a missing object is no error."""
        managed = self._resolve_writable(path)
        await managed.backend.delete_object(managed.key)

    async def unlink_many(self, paths: Iterable[str]) -> dict[str, StorageError]:
        """Returns the paths that could not be deleted, with their errors."""
        failed: dict[str, StorageError] = {}
        paths_by_backend: dict[str, dict[Key, str]] = {}
        backends: dict[str, StorageBackend] = {}
        for path in paths:
            try:
                managed = self._resolve_writable(path)
            except StorageError as error:
                failed[path] = error
            else:
                backends[managed.backend.name] = managed.backend
                paths_by_backend.setdefault(managed.backend.name, {})[managed.key] = path
        for name, backend in backends.items():
            try:
                errors = await backend.delete_objects(paths_by_backend[name])
            except StorageError as error:
                errors = dict.fromkeys(paths_by_backend[name], error)
            failed.update({paths_by_backend[name][key]: error for key, error in errors.items()})
        return failed

    async def utimes(self, path: str, accessed: datetime, modified: datetime) -> None:
        """Set a local file's times; nothing to do on S3. Changes the file's storage etag."""
        managed = self._resolve_writable(path)
        file = managed.backend.local_path(managed.key)
        if file is not None and self._local_paths is not None:
            await asyncio.to_thread(_set_times, Path(self._local_paths.root), file, managed.key, accessed, modified)

    @asynccontextmanager
    async def stage_to_temp(self, path: str, *, size: int | None = None) -> AsyncGenerator[Path]:
        """A readable local file with the bytes of `path`: a local file itself, never a copy; an object in S3 as a download that is
        removed at the end. An external file is given as the path of its open descriptor (see
        `ExternalFiles.open_descriptor_path`): whoever may write to its folder could replace the path by a link meanwhile.

        `size` is the size in the catalogue, in bytes. Waits for room (see `Staging.download`). Raises `ObjectNotFound`,
        `ObjectChanged` where the size differs, `StagingFull`, …
        """
        if self._resolve(path) is None:
            async with self._stage_external(path, size) as descriptor:
                yield descriptor
            return
        local = self.local_path(path)
        if local is not None or size is None:
            info = await self.stat(path)
            if size not in (None, info.size):
                raise ObjectChanged(path, STAGING, f"holds {info.size} bytes, not {size}")
            size = info.size
        if local is not None:
            yield local
            return
        suffix = PurePosixPath(path).suffix
        async with self.staging.download(lambda: self.read(path), size, suffix) as downloaded:
            yield downloaded

    @asynccontextmanager
    async def _stage_external(self, path: str, size: int | None) -> AsyncGenerator[Path]:
        """The open descriptor of the file; a download of its copy where the file cannot be opened and has one."""
        async with AsyncExitStack() as stack:
            try:
                staged = await stack.enter_async_context(self._external.open_descriptor_path(path, size))
            except (ObjectNotFound, ObjectChanged, StoragePermission, StorageUnavailable):
                found = await self._foreign.find(path) if self._external.is_foreign(path) else None
                if found is None:
                    raise
                staged = await stack.enter_async_context(self.stage_to_temp(found[0], size=found[1]))
            yield staged

    async def upload_from_temp(self, temp: Path, path: str, *, content_type: str | None = None) -> StoredContent:
        """Store the file `temp` at `path`, and delete `temp` after the commit. After a failure `temp` stays. Raises as `write` does."""
        return await self.staging.upload(temp, lambda size: self.write(path, size=size, content_type=content_type))

    async def list_managed(self, prefix: str = "") -> AsyncIterator[tuple[str, ObjectInfo]]:
        """Every object of every configured backend, with its path; only those below `prefix` (whole segments) where given.
        Foreign objects in a bucket may have names that are no valid keys; such a path can be shown, but not used. Raises
        `ListingIncomplete` with paths after the last object, where some folders could not be listed."""
        unlisted_paths: list[str] = []
        name = ""
        for backend, area in ((self._local, self._local_paths), (self._s3, self._bucket_paths)):
            if backend is not None and area is not None:
                try:
                    async for info in backend.list_objects(prefix):
                        yield area.to_listed_path(info.key), info
                except ListingIncomplete as error:
                    unlisted_paths += map(area.to_listed_path, error.folders)
                    name = error.backend
        if unlisted_paths:
            raise ListingIncomplete(unlisted_paths, name)

    async def probe(self) -> None:
        """Writes, reads and deletes a test object in the primary location; raises the first error."""
        await self.primary_backend.probe()

    async def sweep_leftovers(self, older_than: timedelta, find_paths_in_use: FindKeysInUse | None = None) -> int:
        """Remove what writes of dead processes, and ended resumable writes, left on every backend; returns how many. Without
        `find_paths_in_use`, which returns those of the given paths for which a resumable write may still go on, none counts as in
        use."""
        swept = 0
        for engine in StorageEngine:
            if (location := self.find_location(engine)) is not None:
                find_in_use = find_by_path(location.paths, find_paths_in_use) if find_paths_in_use is not None else None
                swept += await location.backend.sweep_leftovers(older_than, find_in_use)
        return swept

    async def presigned_url(
        self, path: str, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        """A URL that downloads the object directly; None where the file lies on a local disk."""
        managed = self._resolve(path)
        if managed is None:
            return None
        return await managed.backend.presigned_url(
            managed.key, expires_in=expires_in, content_type=content_type, disposition=disposition
        )

    def local_path(self, path: str) -> Path | None:
        """The path of the local file; None on S3."""
        managed = self._resolve(path)
        return Path(path) if managed is None else managed.backend.local_path(managed.key)

    async def aclose(self) -> None:
        for backend in self._backends():
            await backend.aclose()
        await self._external.aclose()
        await self.staging.aclose()

    def _backends(self) -> list[StorageBackend]:
        return [backend for backend in (self._local, self._s3) if backend is not None]

    def _resolve_path(self, path: str) -> ManagedObject | None:
        """Backend and key of a managed path; None for an external path."""
        if is_s3_uri(path):
            parse_s3_uri(path)
            key = self._bucket_paths.to_key(path) if self._bucket_paths else None
            if key is None:
                raise InvalidKey(path, "s3", "lies outside of the configured bucket and prefix")
            return self._require_backend(self._s3, key, path)
        check_local_path(path)
        if self._external.is_foreign(path):
            return None
        key = self._local_paths.to_key(path) if self._local_paths else None
        return None if key is None else self._require_backend(self._local, key, path)

    @staticmethod
    def _require_backend(backend: StorageBackend | None, key: Key, path: str) -> ManagedObject:
        if backend is None:
            raise StorageUnavailable(path, "s3" if is_s3_uri(path) else "local", "is not connected")
        return ManagedObject(backend, key)

    def _resolve_writable(self, path: str) -> ManagedObject:
        return self._resolve(path) or self._external.refuse_write(path)


def _set_times(root: Path, file: Path, key: Key, accessed: datetime, modified: datetime) -> None:
    with raise_storage_errors(key.value, "local"):
        if not file.resolve().is_relative_to(root.resolve()):
            raise StoragePermission(key.value, "local", "leads outside of the media folder")
        if not file.is_file():
            raise ObjectNotFound(key.value, "local", os.strerror(errno.ENOENT))
        os.utime(file, (accessed.timestamp(), modified.timestamp()), follow_symlinks=False)
