"""`MeteredBackend`: any backend, whose calls an observer is told: for metrics, for traces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

from app.storage.backend import (
    DiskSpace,
    FindKeysInUse,
    ObjectInfo,
    ObjectStream,
    ObjectWriter,
    StorageBackend,
    StoredChecksum,
)
from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.metered.calls import CallObserver, Stopwatch
from app.storage.metered.streams import MeteredAppend, MeteredRead, MeteredWrite
from app.storage.ranges import ByteRange
from app.storage.resumable import ResumableAppender, ResumableWrites, ResumableWriteState, SaveState


class MeteredBackend:
    """See `StorageBackend` for each method. Reads from memory are not measured here: they are the fastest answers, and the server counts them."""

    def __init__(self, backend: StorageBackend, calls: CallObserver) -> None:
        self._backend = backend
        self._calls = calls
        self._resumable_writes = _MeteredResumableWrites(backend.resumable_writes, calls)
        self.read_from_memory = backend.read_from_memory

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def resumable_writes(self) -> ResumableWrites:
        return self._resumable_writes

    async def exists(self, key: Key) -> bool:
        return await self._calls.measure("exists", self._backend.exists(key))

    async def head(self, key: Key) -> ObjectInfo:
        return await self._calls.measure("head", self._backend.head(key))

    async def stored_checksum(self, key: Key) -> StoredChecksum | None:
        return await self._calls.measure("stored_checksum", self._backend.stored_checksum(key))

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return MeteredRead(self._calls, "read", "read", self._backend.read_stream(key, byte_range, if_match))

    def write_stream(
        self,
        key: Key,
        *,
        size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        skip_exists_check: bool = False,
    ) -> AbstractAsyncContextManager[ObjectWriter]:
        write = self._backend.write_stream(
            key, size=size, content_type=content_type, metadata=metadata, skip_exists_check=skip_exists_check
        )
        return MeteredWrite(self._calls, "write", "write", write)

    async def put_object(self, key: Key, data: bytes, metadata: Mapping[str, str] | None = None) -> None:
        await self._calls.measure("put", self._backend.put_object(key, data, metadata))
        self._calls.count_bytes("write", len(data))

    async def copy_object(self, source: Key, target: Key) -> None:
        await self._calls.measure("copy", self._backend.copy_object(source, target))

    async def move_object(self, source: Key, target: Key) -> None:
        await self._calls.measure("move", self._backend.move_object(source, target))

    async def delete_object(self, key: Key) -> None:
        await self._calls.measure("delete", self._backend.delete_object(key))

    async def delete_objects(self, keys: Iterable[Key]) -> Mapping[Key, StorageError]:
        return await self._calls.measure("delete_many", self._backend.delete_objects(keys))

    async def list_objects(self, prefix: str = "", start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        watch = Stopwatch()
        listing = self._backend.list_objects(prefix, start_after)
        failure: BaseException | None = None
        try:
            while True:
                try:
                    info = await watch.run(anext(listing))
                except StopAsyncIteration:
                    return
                yield info
        except BaseException as error:
            failure = error
            raise
        finally:
            if isinstance(listing, AsyncGenerator):
                await listing.aclose()
            self._calls.record("list", failure, watch)
            failure = None

    async def ensure_prefix(self, prefix: str) -> None:
        await self._calls.measure("ensure_prefix", self._backend.ensure_prefix(prefix))

    async def prune_folders(self) -> int:
        return await self._calls.measure("prune_folders", self._backend.prune_folders())

    async def probe(self) -> None:
        await self._calls.measure("probe", self._backend.probe())

    async def check_marker(self, marker: Key, text: bytes) -> None:
        await self._calls.measure("check_marker", self._backend.check_marker(marker, text))

    async def disk_space(self, prefix: str) -> DiskSpace | None:
        return await self._calls.measure("disk_space", self._backend.disk_space(prefix))

    async def sweep_leftovers(self, older_than: timedelta, find_in_use: FindKeysInUse | None = None) -> int:
        return await self._calls.measure("sweep_leftovers", self._backend.sweep_leftovers(older_than, find_in_use))

    def local_path(self, key: Key) -> Path | None:
        return self._backend.local_path(key)

    async def presigned_url(
        self, key: Key, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        return await self._backend.presigned_url(
            key, expires_in=expires_in, content_type=content_type, disposition=disposition
        )

    async def aclose(self) -> None:
        await self._backend.aclose()


class _MeteredResumableWrites:
    """See `ResumableWrites` for each method."""

    def __init__(self, writes: ResumableWrites, calls: CallObserver) -> None:
        self._writes = writes
        self._calls = calls

    async def begin(self, key: Key, *, size: int | None, content_type: str | None) -> ResumableWriteState:
        return await self._calls.measure(
            "resumable_begin", self._writes.begin(key, size=size, content_type=content_type)
        )

    def append(
        self, key: Key, state: ResumableWriteState, *, size: int | None, save: SaveState, is_contested: bool
    ) -> AbstractAsyncContextManager[ResumableAppender]:
        append = self._writes.append(key, state, size=size, save=save, is_contested=is_contested)
        return MeteredAppend(self._calls, "resumable_append", "write", append)

    async def commit(self, key: Key, state: ResumableWriteState, size: int, *, is_contested: bool = False) -> None:
        await self._calls.measure("resumable_commit", self._writes.commit(key, state, size, is_contested=is_contested))

    async def abort(self, key: Key, state: ResumableWriteState | None) -> None:
        await self._calls.measure("resumable_abort", self._writes.abort(key, state))

    async def check(self, key: Key, state: ResumableWriteState) -> None:
        await self._calls.measure("resumable_check", self._writes.check(key, state))
