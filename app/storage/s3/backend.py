"""S3 as a `StorageBackend`: what a key means there, and how reads, writes and calls come together.

Atomic write-once rests on the store's conditional writes; where a store has none, on the question before the write.
A key that lies below another object, or above one, is refused as far as one round of questions can tell.
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
from app.storage.backend import SPARE_BYTES, ObjectInfo, ObjectStream, ObjectWriter, Room, StoredChecksum, attests
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
from app.storage.s3.answers import UNDATED, Found, Part
from app.storage.s3.body import Body
from app.storage.s3.capabilities import Feature
from app.storage.s3.client import S3Client
from app.storage.s3.deleting import BATCH, delete_keys
from app.storage.s3.errors import BACKEND
from app.storage.s3.listing import Listings
from app.storage.s3.reads import Reads
from app.storage.s3.writes import MARK, Uploads

COPY_WHOLE_BYTES = 5 * GIBIBYTE
"""The most that S3 copies in one call."""
COPY_PART_BYTES = GIBIBYTE
_PART_COPIES = 4
_FOLDERS_REMEMBERED = 65_536


class S3Backend:
    """Objects below one prefix of one bucket. Made by `open_s3`; close it with `aclose`."""

    name = BACKEND

    def __init__(
        self,
        client: S3Client,
        reads: Reads,
        uploads: Uploads,
        *,
        deadline: float,
        copy_whole: int = COPY_WHOLE_BYTES,
        copy_part: int = COPY_PART_BYTES,
    ) -> None:
        self.client = client
        self.reads = reads
        self.uploads = uploads
        self._deadline = deadline
        self.copy_whole = copy_whole
        self.copy_part = copy_part
        self._folders: OrderedDict[str, None] = OrderedDict()
        self.trial = uploads.trial
        self._listings = Listings(client, uploads.trial)

    async def aclose(self) -> None:
        await self.uploads.chores.aclose(self._deadline)
        await self.reads.aclose()
        await self.client.aclose()

    async def exists(self, key: Key) -> bool:
        try:
            await self.head(key)
        except ObjectNotFound:
            return False
        return True

    async def head(self, key: Key) -> ObjectInfo:
        found = await self._found(key)
        return ObjectInfo(key.value, found.size, found.last_modified.astimezone(UTC), found.etag)

    async def stored_checksum(self, key: Key) -> StoredChecksum | None:
        found = await self._found(key, checksum=True)
        return None if found.crc32 is None else StoredChecksum(found.size, found.crc32)

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return self.reads.open(key.value, byte_range, if_match)

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
        """See `StorageBackend.write_stream`. A commit that is cancelled runs to its end before the cancellation is
        raised, so the object may be there although the caller was cancelled."""
        writer = self.uploads.writer(key.value, size=size, content_type=content_type, metadata=metadata)
        if not free:
            await self._refuse_taken(key)
        await self.trial.conditional_put()
        try:
            yield writer
            await writer.commit()
        finally:
            await writer.discard()

    async def put_object(self, key: Key, data: bytes, metadata: Mapping[str, str] | None = None) -> None:
        await self._refuse_nesting(key)
        body = Body(data, checksum=self.client.own_checksums)
        await self.client.put(key.value, body, content_type=None, metadata=metadata or {}, once=False)

    async def copy_object(self, source: Key, target: Key) -> None:
        found = await self._found(source)
        await self._refuse_taken(target)
        if found.size > self.copy_whole:
            await self._copy_by_parts(source.value, target.value, found)
        else:
            await self._copy_whole(source.value, target.value, found)

    async def move_object(self, source: Key, target: Key) -> None:
        await self.copy_object(source, target)
        await self.delete_object(source)

    async def delete_object(self, key: Key) -> None:
        await self.client.delete(key.value)

    async def delete_objects(self, keys: Iterable[Key]) -> Mapping[Key, StorageError]:
        failed: dict[Key, StorageError] = {}
        remaining = iter(dict.fromkeys(keys))
        while batch := {key.value: key for key in islice(remaining, BATCH)}:
            refused = await delete_keys(self.client, list(batch))
            failed.update({batch[name]: error for name, error in refused.items()})
        return failed

    async def list_objects(self, prefix: str = "", start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        async for item in self._listings.objects(below, start_after):
            # Folder markers of consoles and our own probes are no objects.
            if not item.key.endswith("/") and not any(is_temporary(segment) for segment in item.key.split("/")):
                yield ObjectInfo(item.key, item.size, item.last_modified.astimezone(UTC), item.etag)

    async def ensure_prefix(self, prefix: str) -> None:
        """Nothing to do: S3 has no folders."""

    async def prune_folders(self) -> int:
        return 0

    async def probe(self) -> None:
        name = f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        data = secrets.token_bytes(64)
        body = Body(data, checksum=self.client.own_checksums)
        await self.client.put(name, body, content_type=None, metadata={}, once=False)
        try:
            async with self.reads.open(name, None, None) as stream:
                if b"".join([chunk async for chunk in stream.chunks]) != data:
                    raise StorageUnavailable(name, BACKEND, "the store gave back other bytes than it was given")
        except StorageError as error:
            error.stored = True
            raise
        finally:
            self.reads.forget(name)
            try:
                await self.client.delete(name)
            except StorageError as error:
                error.stored = True
                raise

    async def recognise(self, witness: Key, text: bytes) -> None:
        if not attests(await self.client.get_start(witness.value, len(text) + SPARE_BYTES), text):
            raise ObjectChanged(witness.value, BACKEND, "holds another text")

    async def room(self, prefix: str) -> Room | None:
        return None

    async def sweep_leftovers(self, older_than: timedelta) -> int:
        """Removes forgotten probes and aborts unfinished multipart uploads below the prefix, which takes a right of its own and so comes
        last; not those of this process that are being written, nor those whose age the store does not tell."""
        limit = datetime.now(UTC) - older_than
        swept = 0
        probes = await self._listings.page(TEMPORARY_PREFIX)
        for probe in probes.items:
            if UNDATED < probe.last_modified <= limit and is_temporary(probe.key):
                await self.client.delete(probe.key)
                swept += 1
        following: tuple[str, ...] | None = None
        while True:
            uploads = await self.client.list_uploads(following)
            for upload in uploads.items:
                if (
                    upload.started is not None
                    and upload.started <= limit
                    and upload.upload_id not in self.uploads.alive
                ):
                    for key in upload.keys:
                        await self.client.abort(key, upload.upload_id)
                    swept += 1
            following = uploads.following
            if following is None:
                return swept

    def local_path(self, key: Key) -> Path | None:
        return None

    def read_now(self, key: Key, span: ByteRange, size: int) -> bytes | None:
        return None

    async def presigned_url(
        self, key: Key, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        """Signed with temporary credentials, the link ends with them, which may be sooner."""
        seconds = max(1, int(expires_in.total_seconds()))
        return await self.client.sign(key.value, seconds, content_type=content_type, disposition=disposition)

    async def _found(self, key: Key, *, checksum: bool = False) -> Found:
        generation = self.client.signing.generation
        try:
            return await self.client.head(key.value, checksum=checksum)
        except (ObjectNotFound, StoragePermission) as error:
            # A HEAD does not say whether it is the object or the bucket that is missing, nor why it was refused.
            await self.client.explain(key.value)
            if self.client.signing.generation != generation:
                return await self.client.head(key.value, checksum=checksum)
            raise error from None

    async def _refuse_taken(self, key: Key) -> None:
        """Raises `ObjectExists` or `InvalidKey` before any byte is taken; all questions are asked at once."""
        taken, nested = await asyncio.gather(self._is_object(key.value), self._nesting(key), return_exceptions=True)
        for answer in (taken, nested):
            if isinstance(answer, BaseException):
                raise answer
        if nested:
            raise InvalidKey(key.value, BACKEND, str(nested))
        if taken:
            raise ObjectExists(key.value, BACKEND)

    async def _refuse_nesting(self, key: Key) -> None:
        if nested := await self._nesting(key):
            raise InvalidKey(key.value, BACKEND, nested)

    async def _nesting(self, key: Key) -> str | None:
        """Why the key can be no object beside those that are there: one lies above it, or below it.

        Folders once seen not to be objects are remembered, so that this costs one short listing per write.
        """
        segments = key.segments
        above = ["/".join(segments[:depth]) for depth in range(1, len(segments))]
        unknown = [folder for folder in above if folder not in self._folders]
        answers = await asyncio.gather(
            self._has_below(key.value), *(self._is_object(folder) for folder in unknown), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        below, *objects = answers
        for folder, is_object in zip(unknown, objects, strict=True):
            if is_object:
                return f"it lies below the object {folder!r}"
            self._folders[folder] = None
        while len(self._folders) > _FOLDERS_REMEMBERED:
            self._folders.popitem(last=False)
        return "there are objects below it" if below else None

    async def _is_object(self, key: str) -> bool:
        try:
            await self.client.head(key)
        except ObjectNotFound:
            return False
        return True

    async def _has_below(self, key: str) -> bool:
        try:
            page = await self._listings.page(f"{key}/", limit=1)
        except StoragePermission:
            return False  # credentials that may not list; the write itself will say if they may do nothing at all
        return bool(page.items)

    async def _copy_whole(self, source: str, target: str, found: Found) -> None:
        mark = secrets.token_hex(16)
        try:
            async with self.uploads.commit_of(target):
                await self.client.copy(source, target, found, {**found.metadata, MARK: mark})
        except (StorageUnavailable, ObjectExists) as error:
            await self.uploads.settle(target, mark, found.size, error)
        else:
            await self.uploads.confirm(target, mark, found.size)

    async def _copy_by_parts(self, source: str, target: str, found: Found) -> None:
        """Keeps type and metadata, which S3 does by itself only for a copy in one call."""
        mark = secrets.token_hex(16)
        metadata = {**found.metadata, MARK: mark}
        client = self.client
        await self.trial.multipart()
        upload_id = await client.create_upload(target, content_type=found.content_type, metadata=metadata)
        self.uploads.alive.add(upload_id)
        slots = asyncio.Semaphore(_PART_COPIES)

        async def copy_part(number: int, first: int) -> Part:
            last = min(first + self.copy_part, found.size) - 1
            async with slots:
                return await client.copy_part(source, target, upload_id, number, first, last, found.etag)

        copies = [
            asyncio.create_task(copy_part(number, first))
            for number, first in enumerate(range(0, found.size, self.copy_part), 1)
        ]
        try:
            parts = await asyncio.gather(*copies)
            try:
                async with self.uploads.commit_of(target):
                    await self.uploads.require_free(Feature.CONDITIONAL_COMPLETE, target)
                    await client.complete(target, upload_id, parts, size=found.size, once=True)
            except (StorageUnavailable, ObjectExists, ObjectNotFound) as error:
                await self.uploads.settle(target, mark, found.size, error)
            else:
                await self.uploads.confirm(target, mark, found.size)
        except BaseException:
            for copy in copies:
                copy.cancel()
            abort = self.uploads.chores.start(client.abort(target, upload_id))
            await asyncio.wait({abort}, timeout=self.uploads.cleanup_seconds)
            raise
        finally:
            self.uploads.alive.discard(upload_id)
