"""`UploadSessions`: creates, continues, completes and cancels resumable uploads. The one entrance for all protocols."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from app.catalog.assets.duplicate_uploads import DuplicateAddition
from app.catalog.catalog import Catalog
from app.catalog.database.outage import FailedWork
from app.catalog.errors import QuotaExceeded
from app.catalog.schema.upload_records import Upload, UploadState
from app.config import Settings
from app.storage.errors import ObjectNotFound
from app.storage.service import StorageService
from app.uploads.body_stream import BodyLimits, Receive, stream_body
from app.uploads.errors import UploadError
from app.uploads.file_receiver import BufferPool
from app.uploads.sessions.active_requests import ActiveRequest, ActiveRequests
from app.uploads.sessions.chunk_rules import ChunkPlan, plan_chunk, repeats_last_chunk
from app.uploads.sessions.completion import UploadCompleter
from app.uploads.sessions.errors import ChunkDigestMismatch, TooManyUploads, UploadGone, UploadNotFound, UploadTakenOver
from app.uploads.sessions.new_session import build_session
from app.uploads.sessions.session_append import SessionAppend, append_body
from app.uploads.sessions.session_values import (
    ChunkDigest,
    DigestAlgorithm,
    NewUpload,
    UploadCaller,
    UploadChunk,
    UploadStatus,
)
from app.uploads.shielding import run_shielded
from app.uploads.upload_result import UploadResult
from app.uploads.uploaded_file import QuotaCheck

RETRY_SECONDS = 60
"""After so long a client that has too many unfinished uploads may try again."""

_HASHES = {DigestAlgorithm.SHA1: "sha1", DigestAlgorithm.SHA256: "sha256", DigestAlgorithm.SHA512: "sha512"}


class UploadSessions:
    """All methods raise `UploadError`s, `CatalogError`s and `StorageError`s only."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        settings: Settings,
        *,
        check_media_location: Callable[[], Awaitable[None]] | None = None,
        on_asset_added: Callable[[UUID], None] | None = None,
        on_ended: Callable[[], None] = lambda: None,
        on_outcome: Callable[[str, str], None] | None = None,
    ) -> None:
        """See `UploadIngest` and `UploadCompleter`. `on_outcome` is called with the protocol, and with `created`, `duplicate`, `refused`
        or `failed`, for each attempt to complete an upload."""
        self._catalog = catalog
        self._storage = storage
        self._settings = settings
        self._lifetime = settings.upload_lifetime
        self._check_media_location = check_media_location
        self._on_ended = on_ended
        self._on_outcome = on_outcome or (lambda _protocol, _outcome: None)
        self._pool = BufferPool()
        self._active = ActiveRequests(catalog.uploads.get_generations)
        self._completer = UploadCompleter(
            catalog,
            storage,
            settings,
            check_media_location=check_media_location,
            on_asset_added=on_asset_added,
            on_ended=on_ended,
        )

    def running(self) -> AbstractAsyncContextManager[object]:
        """Notice takeovers by other processes, until the block ends."""
        return self._active.running()

    async def create(self, caller: UploadCaller, new: NewUpload) -> UploadStatus:
        """Begin a session, of which nothing is stored yet but its row.

        Size, type, fields, quota and declared checksum are checked as for a plain upload. A declared SHA-1 that the user has already
        gives a session that is complete at once. Raises `TooManyUploads` too.
        """
        upload = build_session(caller, new, self._settings.upload_limit, self._lifetime)
        if new.declared_sha1 is not None:
            known = await self._catalog.assets.get_by_checksum(caller.user.id, new.declared_sha1)
            if known is not None:
                upload = _complete_at_once(upload, known.id, known.file.size)
        if upload.is_open and self._check_media_location is not None:
            await self._check_media_location()
        if not await self._catalog.uploads.create(upload, self._settings.upload_sessions):
            raise TooManyUploads(self._settings.upload_sessions, RETRY_SECONDS)
        if upload.state is UploadState.COMPLETE:
            self._on_outcome(upload.protocol, "duplicate")
        return _to_status(upload)

    async def append(self, caller: UploadCaller, upload_id: UUID, chunk: UploadChunk, receive: Receive) -> UploadStatus:
        """Take the session over, append the request's body, and complete the upload if these were its last bytes.

        What arrived before the connection broke is kept, but not where the chunk has a digest. Raises `UploadNotFound`, `UploadGone`,
        `OffsetMismatch`, `InconsistentLength`, `ChunkDigestMismatch`, `UploadTakenOver`, `UploadForbidden` too. A repeated last
        request of a complete upload gets the upload's answer again; its body is not received.
        """
        async with self._active.enter(caller.user.id, upload_id) as request:
            upload = await self._take_over(caller, upload_id, request, begins_append=True)
            if not upload.is_open:
                if not repeats_last_chunk(upload, chunk):
                    plan_chunk(upload, chunk, self._settings.upload_limit)
                return _to_status(upload)
            work = self._append(upload, chunk, request, receive)
            return _to_status(await run_shielded(work, lambda _: request.stop(), self._is_known))

    async def get_status(self, caller: UploadCaller, upload_id: UUID) -> UploadStatus:
        """Take the session over, so that its offset is the one at which the next request continues. Completes an upload all of whose
        bytes are there. Raises `UploadNotFound`, `UploadGone`, and what completing raises."""
        async with self._active.enter(caller.user.id, upload_id) as request:
            upload = await self._take_over(caller, upload_id, request)
            if upload.is_open and upload.all_received:
                upload = await self._take_over(caller, upload_id, request, begins_append=True)
                if upload.is_open:
                    upload = await run_shielded(self._complete(upload), lambda _: None, self._is_known)
            return _to_status(upload)

    async def cancel(self, caller: UploadCaller, upload_id: UUID) -> None:
        """End the session; what is stored of it is deleted soon. Raises `UploadNotFound`; `UploadGone` where it has ended already. A
        complete upload's answer is forgotten, and its asset stays."""
        async with self._active.enter(caller.user.id, upload_id) as request:
            upload = await self._take_over(caller, upload_id, request)
            forget_at = datetime.now(UTC) + self._lifetime
            if upload.is_open and not await self._catalog.uploads.end(upload, UploadState.CANCELLED, forget_at):
                raise UploadTakenOver
            self._on_ended()

    async def complete_idle(self, upload: Upload) -> None:
        """Complete an upload all of whose bytes are there and whose client does not come back. Raises as `append`."""
        if self._active.is_active(upload.owner_id, upload.id):
            return
        async with self._active.enter(upload.owner_id, upload.id) as request:
            taken = await self._catalog.uploads.take_over(upload.owner_id, upload.id, writer=uuid4())
            if taken is not None and taken.is_open and taken.all_received:
                request.generation = taken.generation
                await run_shielded(self._complete(taken), lambda _: None, self._is_known)

    async def _take_over(
        self, caller: UploadCaller, upload_id: UUID, request: ActiveRequest, *, begins_append: bool = False
    ) -> Upload:
        credential = {"credential_id": caller.credential_id, "permission": caller.permission}
        writer = uuid4() if begins_append else None
        upload = await self._catalog.uploads.take_over(caller.user.id, upload_id, writer=writer, **credential)
        if upload is None:
            raise UploadNotFound(upload_id)
        if upload.is_open:
            request.generation = upload.generation
        elif upload.state is not UploadState.COMPLETE:
            raise UploadGone(upload.state, upload.failure or "")
        return upload

    async def _append(self, upload: Upload, chunk: UploadChunk, request: ActiveRequest, receive: Receive) -> Upload:
        try:
            plan = plan_chunk(upload, chunk, self._settings.upload_limit)
            upload = await self._receive(upload, chunk, plan, request, receive)
        except ObjectNotFound as error:
            raise await self._completer.fail_for_loss(upload) from error
        return await self._complete(upload) if upload.all_received else upload

    async def _receive(
        self, upload: Upload, chunk: UploadChunk, plan: ChunkPlan, request: ActiveRequest, receive: Receive
    ) -> Upload:
        if self._check_media_location is not None:
            await self._check_media_location()
        upload, check_size = await self._reserve(upload, plan)
        digest = None if chunk.digest is None else ChunkHash(chunk.digest)
        append = SessionAppend(
            self._catalog,
            self._storage,
            upload,
            self._lifetime,
            update_digest=digest.update if digest is not None else None,
            on_progress=chunk.on_progress,
            pool=self._pool,
        )
        limits = BodyLimits(
            size=self._settings.upload_limit,
            idle_seconds=self._settings.upload_idle_seconds,
            minimum_rate=self._settings.upload_minimum_rate,
        )
        stream = stream_body(request.wrap_receive(receive), chunk.content_length, limits)
        async with append:
            failure: UploadError | QuotaExceeded | None = None
            try:
                async with aclosing(stream) as body:
                    await append_body(append, request.check_each(body), check_size, is_atomic=digest is not None)
            except UploadTakenOver:
                raise
            except (UploadError, QuotaExceeded) as error:
                failure = UploadTakenOver() if request.is_stopped else error
            request.raise_if_superseded()
            if digest is None:
                await append.checkpoint(**_outcome(append, chunk, plan, is_whole=failure is None))
            elif failure is None:
                await append.flush()
                if not digest.matches():
                    failure = ChunkDigestMismatch()
                else:
                    await append.checkpoint(**_outcome(append, chunk, plan, is_whole=True))
        if failure is None:
            plan.check_end(chunk, append.upload.offset)
            return append.upload
        await append.count_discarded()
        raise failure

    async def _reserve(self, upload: Upload, plan: ChunkPlan) -> tuple[Upload, Callable[[int], None]]:
        """Save a length that is told only now. Returns what checks the offsets of the body: a length that is not known reserves nothing
        of the quota."""
        if plan.length is not None:
            if upload.length is None and not await self._catalog.uploads.set_length(upload, plan.length):
                raise UploadTakenOver
            return replace(upload, length=plan.length), plan.check
        usage = await self._catalog.uploads.read_usage(upload.owner_id, upload_id=upload.id)
        if usage is None:
            return upload, plan.check
        quota_check = QuotaCheck(*usage)

        def check_size(offset: int) -> None:
            plan.check(offset)
            quota_check.check(offset)

        return upload, check_size

    async def _complete(self, upload: Upload) -> Upload:
        outcome = "failed"
        try:
            completed = await self._completer.complete(upload)
            outcome = "created" if completed.result_created else "duplicate"
        except (UploadError, QuotaExceeded):
            outcome = "refused"
            raise
        finally:
            self._on_outcome(upload.protocol, outcome)
        return completed

    def _is_known(self, error: BaseException) -> bool:
        """True where the error is no news: of an outage that is logged already, or that the client's leaving explains."""
        is_outage = self._catalog.outages.record_failure(error, FailedWork.REQUEST)
        return isinstance(error, UploadError) or is_outage


class ChunkHash:
    """The digest of one request's bytes."""

    def __init__(self, expected: ChunkDigest) -> None:
        self._expected = expected.value
        self._hash = hashlib.new(_HASHES[expected.algorithm], usedforsecurity=False)

    def update(self, data: memoryview) -> None:
        self._hash.update(data)

    def matches(self) -> bool:
        return hmac.compare_digest(self._hash.digest(), self._expected)


def _outcome(append: SessionAppend, chunk: UploadChunk, plan: ChunkPlan, *, is_whole: bool) -> dict[str, Any]:
    """What the row says after this request. `is_whole`: the whole body has arrived."""
    if is_whole and plan.is_complete(chunk, append.offset):
        return {"all_received": True, "length": append.offset}  # the writer stays: it completes the upload
    return {"writer": None}


def _complete_at_once(upload: Upload, asset_id: UUID, size: int | None) -> Upload:
    length = upload.length if upload.length is not None else size or 0
    return replace(
        upload,
        state=UploadState.COMPLETE,
        length=length,
        offset=length,
        result_asset_id=asset_id,
        result_created=False,
        result_added=[],
    )


def _to_status(upload: Upload) -> UploadStatus:
    result = None
    if upload.result_asset_id is not None:
        added = tuple(map(DuplicateAddition, upload.result_added or ()))
        result = UploadResult(bool(upload.result_created), upload.result_asset_id, added)
    return UploadStatus(
        upload.id, upload.state, upload.offset, upload.length, upload.expires_at, upload.raw_metadata, result
    )
