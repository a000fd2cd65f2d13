"""`ResumableFiles`: resumable writes by the paths that the catalogue stores (see `ResumableWrites` for each method).

A write goes on where its path leads, also after the engine was switched.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from app.storage.backend import FindKeysInUse, StorageBackend
from app.storage.errors import StorageFull, StoragePermission, StorageUnavailable
from app.storage.key import Key
from app.storage.path import BucketPaths, LocalPaths
from app.storage.resumable import ResumableAppender, ResumableWriteState, SaveState


@dataclass(frozen=True, slots=True)
class ManagedObject:
    backend: StorageBackend
    key: Key


@dataclass(slots=True)
class WriteCounts:
    """`failed`: writes that a backend failed (full, no permission, unavailable). `in_s3`: writes committed to the bucket."""

    failed: int = 0
    in_s3: int = 0

    @contextmanager
    def count_failure(self) -> Generator[None]:
        try:
            yield
        except (StorageFull, StoragePermission, StorageUnavailable):
            self.failed += 1
            raise


class ResumableFiles:
    """`resolve` gives the backend and key of a managed path, and raises `StoragePermission` for others."""

    def __init__(self, resolve: Callable[[str], ManagedObject], counts: WriteCounts) -> None:
        self._resolve = resolve
        self._counts = counts

    async def begin(self, path: str, *, size: int | None, content_type: str | None) -> ResumableWriteState:
        managed = self._resolve(path)
        with self._counts.count_failure():
            return await managed.backend.resumable_writes.begin(managed.key, size=size, content_type=content_type)

    @asynccontextmanager
    async def append(
        self, path: str, state: ResumableWriteState, *, size: int | None, save: SaveState, is_contested: bool
    ) -> AsyncGenerator[ResumableAppender]:
        managed = self._resolve(path)
        with self._counts.count_failure():
            async with managed.backend.resumable_writes.append(
                managed.key, state, size=size, save=save, is_contested=is_contested
            ) as appender:
                yield appender

    async def commit(self, path: str, state: ResumableWriteState, size: int, *, is_contested: bool = False) -> None:
        managed = self._resolve(path)
        with self._counts.count_failure():
            await managed.backend.resumable_writes.commit(managed.key, state, size, is_contested=is_contested)
        if managed.backend.name == "s3":
            self._counts.in_s3 += 1

    async def abort(self, path: str, state: ResumableWriteState | None) -> None:
        managed = self._resolve(path)
        await managed.backend.resumable_writes.abort(managed.key, state)

    async def check(self, path: str, state: ResumableWriteState) -> None:
        managed = self._resolve(path)
        await managed.backend.resumable_writes.check(managed.key, state)


def find_by_path(area: LocalPaths | BucketPaths, find_paths_in_use: FindKeysInUse) -> FindKeysInUse:
    """The function for one location's keys that asks `find_paths_in_use`, which takes and returns paths."""

    async def find_keys_in_use(keys: Collection[str]) -> Collection[str]:
        keys_by_path = {area.to_listed_path(key): key for key in keys}
        return [keys_by_path[path] for path in await find_paths_in_use(keys_by_path.keys()) if path in keys_by_path]

    return find_keys_in_use
