"""`UploadCompleter`: makes the asset of a session all of whose bytes are durable. Reads nothing back, and hashes nothing again.

Any process may do so at any time, also again: the commit in the storage can be repeated, and one transaction makes file and asset live
and keeps the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from app.catalog.catalog import Catalog
from app.catalog.errors import DuplicateAsset, NotAPhoto, UploadSuperseded
from app.catalog.schema.upload_records import Upload, UploadState
from app.catalog.uploads.upload_rows import UploadCompletion
from app.config import Settings
from app.formats import MediaFormat
from app.formats.signatures import find_content_format
from app.storage.errors import ObjectExists, ObjectIncomplete, ObjectNotFound
from app.storage.resumable import ResumableWriteState
from app.storage.service import StorageService
from app.uploads.asset_insertion import AssetInsertion, DuplicateContent
from app.uploads.errors import ChecksumMismatch, EmptyFile, InvalidField, LeaseLost, UploadError
from app.uploads.fields import UploadFields, parse_fields
from app.uploads.file_names import build_display_name
from app.uploads.file_receiver import ReceivedFile
from app.uploads.sessions.content_hash import HashState, finish_sha1
from app.uploads.sessions.errors import UploadForbidden, UploadGone, UploadTakenOver
from app.uploads.sessions.session_append import SessionAppend
from app.uploads.upload_result import UploadResult
from app.uploads.uploaded_file import QuotaCheck, UploadedFile, find_named_format

ALL_PERMISSIONS = "all"

_REFUSALS = (ChecksumMismatch, EmptyFile, InvalidField, LeaseLost, NotAPhoto)
"""Errors that no repetition can overcome: the session fails."""
_LOSSES = (ObjectNotFound, ObjectIncomplete, ObjectExists)


LOST_BYTES = "The bytes that were received are no longer in the storage"


class UploadCompleter:
    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        settings: Settings,
        *,
        check_media_location: Callable[[], Awaitable[None]] | None,
        on_asset_added: Callable[[UUID], None] | None,
        on_ended: Callable[[], None],
    ) -> None:
        """`on_ended` is called when a session leaves something to clear."""
        self._catalog = catalog
        self._storage = storage
        self._lifetime = settings.upload_lifetime
        self._check_media_location = check_media_location
        self._on_asset_added = on_asset_added
        self._on_ended = on_ended

    async def complete(self, upload: Upload) -> Upload:
        """Returns the complete session's row. Raises what refuses the upload; then the session has failed, or, where that may pass
        (quota, credential, storage), waits to be completed."""
        await self._check_credential(upload)
        try:
            return await self._complete(upload)
        except UploadSuperseded:
            raise UploadTakenOver from None
        except _REFUSALS as error:
            await self._fail(upload, str(error))
            raise
        except _LOSSES as error:
            raise await self.fail_for_loss(upload) from error

    async def fail_for_loss(self, upload: Upload) -> UploadError:
        """End a session whose bytes are missing. Returns the error to raise: `UploadTakenOver` where a newer request has the session, which
        may have moved them."""
        is_failed = await self._fail(upload, LOST_BYTES)
        return UploadGone(UploadState.FAILED, LOST_BYTES) if is_failed else UploadTakenOver()

    async def _fail(self, upload: Upload, reason: str) -> bool:
        """Returns False where a newer request has the session, or it has ended."""
        is_failed = await self._catalog.uploads.end(upload, UploadState.FAILED, self._forget_at(), reason)
        self._on_ended()
        return is_failed

    async def _complete(self, upload: Upload) -> Upload:
        fields = parse_fields(upload.fields)
        original = _describe_file(upload)
        insertion = AssetInsertion(self._catalog, upload.owner_id, self._on_asset_added)
        try:
            new = await insertion.validate(fields, original, upload.declared_sha1)
        except DuplicateContent as duplicate:
            return await self._complete_duplicate(upload, insertion, fields, duplicate.asset.id)
        await self._check_quota(upload)
        if self._check_media_location is not None:
            await self._check_media_location()
        upload = await self._commit(upload)
        original = replace(original, file_id=upload.file_id)
        completion = UploadCompletion(upload, self._forget_at())
        try:
            result = await insertion.insert(new, original, completion=completion)
        except DuplicateAsset as duplicate:
            return await self._complete_duplicate(upload, insertion, fields, duplicate.asset_id)
        return _completed(completion, result)

    async def _commit(self, upload: Upload) -> Upload:
        async with SessionAppend(self._catalog, self._storage, upload, self._lifetime) as append:
            await append.store_head()
            upload = append.upload
        if upload.path is None or upload.storage_state is None:
            raise RuntimeError("a complete upload without a file")
        state = ResumableWriteState(upload.storage_state)
        await self._storage.resumable.commit(upload.path, state, upload.offset, is_contested=upload.is_contested)
        return upload

    async def _complete_duplicate(
        self, upload: Upload, insertion: AssetInsertion, fields: UploadFields, asset_id: UUID
    ) -> Upload:
        result = await insertion.complete_existing(asset_id, None, is_favorite=fields.is_favorite)
        completion = UploadCompletion(upload, self._forget_at())
        if not await self._catalog.uploads.complete(completion, result.asset_id, result.added):
            raise UploadTakenOver
        self._on_ended()
        return _completed(completion, result)

    async def _check_credential(self, upload: Upload) -> None:
        wanted = (upload.permission, ALL_PERMISSIONS)
        if upload.credential_id is not None and not await self._catalog.uploads.has_credential(
            upload.owner_id, upload.credential_id, wanted
        ):
            raise UploadForbidden(upload.permission)

    async def _check_quota(self, upload: Upload) -> None:
        usage = await self._catalog.uploads.read_usage(upload.owner_id, upload_id=upload.id)
        if usage is not None:
            QuotaCheck(*usage).check(upload.offset)

    def _forget_at(self) -> datetime:
        return datetime.now(UTC) + self._lifetime


def _describe_file(upload: Upload) -> UploadedFile:
    if upload.offset == 0:
        raise EmptyFile
    named = find_named_format(upload.filename)
    sha1 = finish_sha1(HashState(upload.sha1_state, upload.crc32))
    received = ReceivedFile(upload.offset, sha1, upload.crc32)
    return UploadedFile(
        upload.file_id or uuid4(), build_display_name(upload.filename), named, _find_format(upload, named), received
    )


def _find_format(upload: Upload, named: MediaFormat) -> MediaFormat:
    if upload.path is not None:
        return find_named_format(upload.path)
    return find_content_format(upload.head or b"", named)


def _completed(completion: UploadCompletion, result: UploadResult) -> Upload:
    """The row as the transaction has left it."""
    return replace(
        completion.upload,
        state=UploadState.COMPLETE,
        length=completion.upload.offset,
        result_asset_id=result.asset_id,
        result_created=result.created,
        result_added=list(result.added),
        expires_at=completion.expires_at,
    )
