"""`S3Backend`: the storage backend for one prefix of an S3 bucket.

Write-once is guaranteed by the store's conditional writes (`If-None-Match`); on a store without them, by a HEAD before the write, which
leaves a race. A key below or above another object is refused by one round of requests before the write, which leaves a race too.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from app.config import GIBIBYTE
from app.storage.backend import (
    MARKER_SLACK_BYTES,
    DiskSpace,
    FindKeysInUse,
    ObjectInfo,
    ObjectStream,
    ObjectWriter,
    StoredChecksum,
    marker_matches,
)
from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.key import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, Key, is_temporary
from app.storage.ranges import ByteRange
from app.storage.s3.batch_delete import MAX_BATCH_KEYS, delete_keys
from app.storage.s3.leftovers import LeftoverSweeper
from app.storage.s3.object_lister import ObjectLister
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.protocol.errors import BACKEND
from app.storage.s3.protocol.responses import HeadResult, UploadedPart
from app.storage.s3.protocol.upload_body import UploadBody
from app.storage.s3.reader import S3Reader
from app.storage.s3.resumable import S3ResumableWrites
from app.storage.s3.writer import WRITE_ID_METADATA, S3WriterFactory

MAX_COPY_BYTES = 5 * GIBIBYTE
"""S3's limit for a copy in one request."""
COPY_PART_BYTES = GIBIBYTE
_CONCURRENT_PART_COPIES = 4
_MAX_KNOWN_FOLDERS = 65_536


class S3Backend:
    """Objects below one prefix of one bucket. Made by `open_s3`; close it with `aclose`."""

    name = BACKEND

    def __init__(
        self,
        client: S3Client,
        reader: S3Reader,
        uploads: S3WriterFactory,
        *,
        deadline: float,
        max_copy_bytes: int = MAX_COPY_BYTES,
        copy_part_bytes: int = COPY_PART_BYTES,
    ) -> None:
        self.client = client
        self.reader = reader
        self.uploads = uploads
        self._deadline = deadline
        self.max_copy_bytes = max_copy_bytes
        self.copy_part_bytes = copy_part_bytes
        self._known_folders: OrderedDict[str, None] = OrderedDict()
        self.feature_probe = uploads.feature_probe
        self._lister = ObjectLister(client, uploads.feature_probe)
        self._sweeper = LeftoverSweeper(client, self._lister, uploads.active_upload_ids)
        self.resumable_writes = S3ResumableWrites(uploads, self._lister, self._check_key_free)

    def count_connections(self) -> Mapping[str, tuple[int, int]]:
        """By pool: connections in use, and requests that wait for one. `reads` serve downloads, `calls` everything else."""
        calls, limit = self.client.calls_in_flight, self.client.max_connections
        return {
            "reads": (self.reader.connections.in_use, self.reader.connections.waiting),
            "calls": (min(calls, limit), max(0, calls - limit)),
        }

    async def aclose(self) -> None:
        await self.uploads.uncancelled_tasks.aclose(self._deadline)
        await self.reader.aclose()
        await self.client.aclose()

    async def exists(self, key: Key) -> bool:
        try:
            await self.head(key)
        except ObjectNotFound:
            return False
        return True

    async def head(self, key: Key) -> ObjectInfo:
        head = await self._head(key)
        return ObjectInfo(key.value, head.size, head.last_modified.astimezone(UTC), head.etag)

    async def stored_checksum(self, key: Key) -> StoredChecksum | None:
        head = await self._head(key, checksum=True)
        return None if head.crc32 is None else StoredChecksum(head.size, head.crc32)

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return self.reader.open(key.value, byte_range, if_match)

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
        """See `StorageBackend.write_stream`. A cancelled commit runs to its end before the cancellation is raised, so the object may
        exist although the caller was cancelled."""
        writer = self.uploads.create_writer(key.value, size=size, content_type=content_type, metadata=metadata)
        if not skip_exists_check:
            await self._check_key_free(key)
        await self.feature_probe.probe_conditional_put()
        try:
            yield writer
            await writer.commit()
        finally:
            await writer.discard()

    async def put_object(self, key: Key, data: bytes, metadata: Mapping[str, str] | None = None) -> None:
        await self._check_not_nested(key)
        body = UploadBody(data, with_checksum=self.client.sends_own_checksums)
        await self.client.put(key.value, body, content_type=None, metadata=metadata or {}, if_absent=False)

    async def copy_object(self, source: Key, target: Key) -> None:
        head = await self._head(source)
        await self._check_key_free(target)
        if head.size > self.max_copy_bytes:
            await self._copy_by_parts(source.value, target.value, head)
        else:
            await self._copy_whole(source.value, target.value, head)

    async def move_object(self, source: Key, target: Key) -> None:
        await self.copy_object(source, target)
        await self.delete_object(source)

    async def delete_object(self, key: Key) -> None:
        await self.client.delete(key.value)

    async def delete_objects(self, keys: Iterable[Key]) -> Mapping[Key, StorageError]:
        failed: dict[Key, StorageError] = {}
        remaining = iter(dict.fromkeys(keys))
        while batch := {key.value: key for key in islice(remaining, MAX_BATCH_KEYS)}:
            refused = await delete_keys(self.client, list(batch))
            failed.update({batch[name]: error for name, error in refused.items()})
        return failed

    async def list_objects(self, prefix: str = "", start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        async for item in self._lister.list_objects(below, start_after):
            # Folder markers of S3 consoles and test objects of probes are not listed.
            if not item.key.endswith("/") and not any(is_temporary(segment) for segment in item.key.split("/")):
                yield ObjectInfo(item.key, item.size, item.last_modified.astimezone(UTC), item.etag)

    async def ensure_prefix(self, prefix: str) -> None:
        """Nothing to do: S3 has no folders."""

    async def prune_folders(self) -> int:
        return 0

    async def probe(self) -> None:
        name = f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        data = secrets.token_bytes(64)
        body = UploadBody(data, with_checksum=self.client.sends_own_checksums)
        await self.client.put(name, body, content_type=None, metadata={}, if_absent=False)
        try:
            async with self.reader.open(name, None, None) as stream:
                if b"".join([chunk async for chunk in stream.chunks]) != data:
                    raise StorageUnavailable(name, BACKEND, "the store gave back other bytes than it was given")
        except StorageError as error:
            error.probe_was_stored = True
            raise
        finally:
            self.reader.forget_link(name)
            try:
                await self.client.delete(name)
            except StorageError as error:
                error.probe_was_stored = True
                raise

    async def check_marker(self, marker: Key, text: bytes) -> None:
        if not marker_matches(await self.client.read_prefix(marker.value, len(text) + MARKER_SLACK_BYTES), text):
            raise ObjectChanged(marker.value, BACKEND, "holds another text")

    async def disk_space(self, prefix: str) -> DiskSpace | None:
        return None

    async def sweep_leftovers(self, older_than: timedelta, find_in_use: FindKeysInUse | None = None) -> int:
        """Uploads that this process is writing, and leftovers whose age the store does not tell, stay."""
        return await self._sweeper.sweep(datetime.now(UTC) - older_than, find_in_use)

    def local_path(self, key: Key) -> Path | None:
        return None

    def read_from_memory(self, key: Key, byte_range: ByteRange, size: int) -> bytes | None:
        return None

    async def presigned_url(
        self, key: Key, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        """A link signed with temporary credentials expires with them, which may be before `expires_in`."""
        seconds = max(1, int(expires_in.total_seconds()))
        return await self.client.presign_get(key.value, seconds, content_type=content_type, disposition=disposition)

    async def _head(self, key: Key, *, checksum: bool = False) -> HeadResult:
        generation = self.client.signing.generation
        try:
            return await self.client.head(key.value, with_checksum=checksum)
        except (ObjectNotFound, StoragePermission) as error:
            # A HEAD does not tell a missing object from a missing bucket, nor why the request was refused.
            await self.client.check_readable(key.value)
            if self.client.signing.generation != generation:
                return await self.client.head(key.value, with_checksum=checksum)
            raise error from None

    async def _check_key_free(self, key: Key) -> None:
        """Raises `ObjectExists` or `InvalidKey`. All requests are sent concurrently."""
        taken, nested = await asyncio.gather(
            self._is_object(key.value), self._find_nesting(key), return_exceptions=True
        )
        for answer in (taken, nested):
            if isinstance(answer, BaseException):
                raise answer
        if nested:
            raise InvalidKey(key.value, BACKEND, str(nested))
        if taken:
            raise ObjectExists(key.value, BACKEND)

    async def _check_not_nested(self, key: Key) -> None:
        if nested := await self._find_nesting(key):
            raise InvalidKey(key.value, BACKEND, nested)

    async def _find_nesting(self, key: Key) -> str | None:
        """The reason why the key cannot be used: another object lies above or below it; None where it can.

        Folders that were found not to be objects are cached, so that a write usually costs one short listing.
        """
        segments = key.segments
        above = ["/".join(segments[:depth]) for depth in range(1, len(segments))]
        unknown = [folder for folder in above if folder not in self._known_folders]
        answers = await asyncio.gather(
            self._has_objects_below(key.value), *(self._is_object(folder) for folder in unknown), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        below, *objects = answers
        for folder, is_object in zip(unknown, objects, strict=True):
            if is_object:
                return f"it lies below the object {folder!r}"
            self._known_folders[folder] = None
        while len(self._known_folders) > _MAX_KNOWN_FOLDERS:
            self._known_folders.popitem(last=False)
        return "there are objects below it" if below else None

    async def _is_object(self, key: str) -> bool:
        try:
            await self.client.head(key)
        except ObjectNotFound:
            return False
        return True

    async def _has_objects_below(self, key: str) -> bool:
        try:
            page = await self._lister.list_page(f"{key}/", limit=1)
        except StoragePermission:
            return False  # the credentials may not list; the write itself fails if they may not write either
        return bool(page.items)

    async def _copy_whole(self, source: str, target: str, source_head: HeadResult) -> None:
        write_id = secrets.token_hex(16)
        try:
            async with self.uploads.commit_lock(target):
                await self.client.copy(
                    source, target, source_head, {**source_head.metadata, WRITE_ID_METADATA: write_id}
                )
        except (StorageUnavailable, ObjectExists) as error:
            await self.uploads.resolve_commit(target, write_id, source_head.size, error)
        else:
            await self.uploads.verify_stored(target, write_id, source_head.size)

    async def _copy_by_parts(self, source: str, target: str, source_head: HeadResult) -> None:
        """Copies by UploadPartCopy, and sets content type and metadata, which S3 keeps by itself only in CopyObject."""
        write_id = secrets.token_hex(16)
        metadata = {**source_head.metadata, WRITE_ID_METADATA: write_id}
        client = self.client
        await self.feature_probe.probe_multipart()
        upload_id = await client.create_upload(target, content_type=source_head.content_type, metadata=metadata)
        self.uploads.active_upload_ids.add(upload_id)
        slots = asyncio.Semaphore(_CONCURRENT_PART_COPIES)

        async def copy_part(number: int, first: int) -> UploadedPart:
            last = min(first + self.copy_part_bytes, source_head.size) - 1
            async with slots:
                return await client.copy_part(source, target, upload_id, number, first, last, source_head.etag)

        copies = [
            asyncio.create_task(copy_part(number, first))
            for number, first in enumerate(range(0, source_head.size, self.copy_part_bytes), 1)
        ]
        try:
            parts = await asyncio.gather(*copies)
            try:
                async with self.uploads.commit_lock(target):
                    await self.uploads.check_key_free(S3Feature.CONDITIONAL_COMPLETE, target)
                    await client.complete(target, upload_id, parts, size=source_head.size, if_absent=True)
            except (StorageUnavailable, ObjectExists, ObjectNotFound) as error:
                await self.uploads.resolve_commit(target, write_id, source_head.size, error)
            else:
                await self.uploads.verify_stored(target, write_id, source_head.size)
        except BaseException:
            for copy in copies:
                copy.cancel()
            abort = self.uploads.uncancelled_tasks.start(client.abort(target, upload_id))
            await asyncio.wait({abort}, timeout=self.uploads.cleanup_seconds)
            raise
        finally:
            self.uploads.active_upload_ids.discard(upload_id)
