"""`S3ResumableWrites`: resumable writes to a bucket: a multipart upload that several processes may continue, and a tail object.

One request commits: CompleteMultipartUpload, or PutObject where no part was sent. As for a plain write, an id in the metadata tells later
whether it was this write that was stored.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from app.storage.errors import (
    ObjectExists,
    ObjectIncomplete,
    ObjectNotFound,
    ObjectTooLarge,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.key import Key
from app.storage.resumable import ResumableAppender, ResumableWriteState, SaveState
from app.storage.s3.object_lister import ObjectLister
from app.storage.s3.part_sizes import MAXIMUM_PARTS, choose_part_size
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.errors import BACKEND, MultipartUploadMissing
from app.storage.s3.protocol.responses import UploadedPart
from app.storage.s3.protocol.upload_body import UploadBody
from app.storage.s3.resumable_appender import S3Appender, load_tail, make_metadata
from app.storage.s3.resumable_state import (
    S3WriteState,
    TailObject,
    make_tail_token,
    parse_state,
    tail_key,
    tails_prefix,
)
from app.storage.s3.writer import WRITE_ID_METADATA, S3WriterFactory


class S3ResumableWrites:
    """`check_key_free` raises `ObjectExists` or `InvalidKey`."""

    def __init__(
        self,
        uploads: S3WriterFactory,
        lister: ObjectLister,
        check_key_free: Callable[[Key], Awaitable[None]],
    ) -> None:
        self._uploads = uploads
        self._client = uploads.client
        self._lister = lister
        self._check_key_free = check_key_free

    async def begin(self, key: Key, *, size: int | None, content_type: str | None) -> ResumableWriteState:
        """Stores nothing: the multipart upload is created when the first part is full."""
        part_size = choose_part_size(size)
        _check_size(key, size, part_size)
        self._client.add_prefix(tail_key(key.value, make_tail_token()))  # raises where it is too long
        await self._check_key_free(key)
        await self._uploads.feature_probe.probe_conditional_put()
        return S3WriteState(0, part_size, secrets.token_hex(16), content_type).to_saved()

    @asynccontextmanager
    async def append(
        self, key: Key, state: ResumableWriteState, *, size: int | None, save: SaveState, is_contested: bool
    ) -> AsyncGenerator[ResumableAppender]:
        parsed = parse_state(state)
        _check_size(key, size, parsed.part_size)
        appender = S3Appender(self._uploads, key, parsed, size, save)
        try:
            yield appender
        finally:
            await appender.close()

    async def commit(self, key: Key, state: ResumableWriteState, size: int, *, is_contested: bool = False) -> None:
        parsed = parse_state(state)
        if parsed.offset != size:
            raise ObjectIncomplete(key.value, BACKEND, f"{parsed.offset} of {size} bytes are durable")
        task = self._uploads.uncancelled_tasks.start(self._commit(key.value, parsed))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def abort(self, key: Key, state: ResumableWriteState | None) -> None:
        """Where the credentials may not list or abort multipart uploads, they stay (see docs/s3.md)."""
        await self._remove_tails(key.value)
        upload_id = None if state is None else parse_state(state).upload_id
        with suppress(StoragePermission):
            if upload_id is not None:
                await self._client.abort(key.value, upload_id)
            for other_id in await self._find_uploads(key.value):
                await self._client.abort(key.value, other_id)

    async def check(self, key: Key, state: ResumableWriteState) -> None:
        parsed = parse_state(state)
        try:
            if parsed.tail is not None:
                head = await self._client.head(tail_key(key.value, parsed.tail.token))
                if head.size != parsed.tail.size:
                    raise ObjectNotFound(key.value, BACKEND, f"its tail has {head.size} of {parsed.tail.size} bytes")
            if parsed.upload_id is not None:
                await self._client.check_upload(key.value, parsed.upload_id)
        except ObjectNotFound as error:
            await self._check_committed(key.value, parsed, error)

    async def _commit(self, key: str, state: S3WriteState) -> None:
        try:
            if state.upload_id is None or not state.offset:
                await self._put(key, state)
                if state.upload_id is not None:
                    await self._client.abort(key, state.upload_id)
            else:
                await self._complete(key, state, state.upload_id)
        except ObjectNotFound as error:
            await self._check_committed(key, state, error)
        except (StorageUnavailable, ObjectExists) as error:
            await self._uploads.resolve_commit(key, state.write_id, state.offset, error)
        await self._remove_tails(key)

    async def _put(self, key: str, state: S3WriteState) -> None:
        """Put the bytes of an object that is shorter than a part."""
        body = UploadBody(with_checksum=self._client.sends_own_checksums)
        reservation = self._uploads.budget.create_reservation(key)
        try:
            if state.tail is not None:
                await reservation.grow(state.tail.size)
                await load_tail(self._uploads, key, state.tail, body)
            async with self._uploads.commit_lock(key):
                await self._uploads.check_key_free(S3Feature.CONDITIONAL_PUT, key)
                await self._client.put(
                    key, body, content_type=state.content_type, metadata=make_metadata(state), if_absent=True
                )
        finally:
            reservation.release()

    async def _complete(self, key: str, state: S3WriteState, upload_id: str) -> None:
        parts = state.parts
        if state.tail is not None:
            parts = (*parts, await self._send_tail(key, state.tail, state.reserved + 1, upload_id))
        async with self._uploads.commit_lock(key):
            await self._uploads.check_key_free(S3Feature.CONDITIONAL_COMPLETE, key)
            await self._client.complete(key, upload_id, parts, size=state.offset, if_absent=True)
        await self._uploads.verify_stored(key, state.write_id, state.offset)

    async def _send_tail(self, key: str, tail: TailObject, number: int, upload_id: str) -> UploadedPart:
        """Send the tail as the last part. Two commits of one state send the same bytes under the same number."""
        if number > MAXIMUM_PARTS:
            raise ObjectTooLarge(key, BACKEND, f"all {MAXIMUM_PARTS} part numbers are used up")
        body = UploadBody(with_checksum=self._client.sends_own_checksums)
        reservation = self._uploads.budget.create_reservation(key)
        try:
            await reservation.grow(tail.size)
            await load_tail(self._uploads, key, tail, body)
            return await self._client.upload_part(key, upload_id, number, body)
        except MultipartUploadMissing as error:
            raise ObjectNotFound(key, BACKEND, "the multipart upload is gone, and with it stored bytes") from error
        finally:
            reservation.release()

    async def _check_committed(self, key: str, state: S3WriteState, error: ObjectNotFound) -> None:
        """Raises `error`, which says that stored bytes are missing, unless that is so because the object is committed."""
        try:
            head = await self._client.head(key)
        except ObjectNotFound:
            raise error from None
        if head.metadata.get(WRITE_ID_METADATA) != state.write_id or head.size != state.offset:
            raise ObjectExists(key, BACKEND) from error

    async def _remove_tails(self, key: str) -> None:
        async for item in self._lister.list_objects(tails_prefix(key), None):
            await self._client.delete(item.key)

    async def _find_uploads(self, key: str) -> list[str]:
        found: list[str] = []
        marker: tuple[str, ...] | None = None
        while True:
            page = await self._client.list_uploads(marker, key)
            found += [upload.upload_id for upload in page.items if key in upload.keys]
            marker = page.next_marker
            if marker is None:
                return found


def _check_size(key: Key, size: int | None, part_size: int) -> None:
    if size is not None and size > part_size * MAXIMUM_PARTS:
        raise ObjectTooLarge(key.value, BACKEND, f"{size} bytes")
