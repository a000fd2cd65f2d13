"""`UploadIngest`: takes in one upload. First it inserts a file row in state `writing`, then it commits the object, then one transaction makes
file and asset live, then the request is answered.

In this order a failure or a crash at any point leaves no object without a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import structlog

from app.catalog.assets.duplicate_uploads import ExistingUpload
from app.catalog.catalog import Catalog
from app.catalog.database.outage import FailedWork
from app.catalog.errors import CatalogError, DuplicateAsset
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.schema.records import File, FileKind, NewAsset, StoredFile, User
from app.config import Settings
from app.formats import MAX_SIDECAR_BYTES, MediaFormat, MediaKind, find_format
from app.formats.signatures import SIGNATURE_BYTES, find_content_format
from app.storage.errors import StorageUnavailable
from app.storage.service import StorageService
from app.uploads.asset_insertion import EMPTY_SHA1, AssetInsertion, DuplicateContent, build_upload_key
from app.uploads.body_stream import BodyLimits, Receive, stream_body
from app.uploads.errors import (
    EmptyFile,
    InvalidField,
    LeaseLost,
    MalformedBody,
    UnsupportedType,
)
from app.uploads.fields import UploadFieldParser, parse_checksum_header
from app.uploads.file_names import build_display_name, extract_extension
from app.uploads.file_receiver import read_head, receive_file
from app.uploads.held_files import HeldBytes, hold_file
from app.uploads.multipart_reader import MAX_OVERHEAD_BYTES, FilePart, FormField, MultipartReader
from app.uploads.shielding import run_shielded
from app.uploads.upload_result import UploadResult
from app.uploads.uploaded_file import QuotaCheck, SizeLimits, UploadedFile, find_named_format

UPLOAD_LEASE = timedelta(minutes=15)
"""Duration of a lease: until it expires, the sweeper leaves the file row alone."""
RENEW_SECONDS = 180.0
"""Seconds between two renewals; a lease outlasts several failed renewals."""

ORIGINAL_PART = "assetData"
SIDECAR_PART = "sidecarData"

_log = structlog.get_logger(__name__)


class UploadIngest:
    """Takes uploads into catalogue and storage."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        settings: Settings,
        check_media_location: Callable[[], Awaitable[None]] | None = None,
        on_asset_added: Callable[[UUID], None] | None = None,
    ) -> None:
        """`check_media_location` raises a `StorageError` while nothing may be written. `on_asset_added` is called with the id of each
        asset that has a task to do, and must not block."""
        self._catalog = catalog
        self._storage = storage
        self._settings = settings
        self._check_media_location = check_media_location
        self._on_asset_added = on_asset_added
        self._held_bytes = HeldBytes()

    async def upload(
        self,
        user: User,
        content_type: str | None,
        content_length: int | None,
        checksum: str | None,
        receive: Receive,
    ) -> UploadResult:
        """Take in the body of one `POST /assets`; content type, length and checksum are its headers.

        Size, quota and a known checksum are checked against the headers before `receive` is called. Raises `UploadError`,
        `CatalogError` (such as `QuotaExceeded`) and `StorageError`; then nothing is kept. A cancellation stops the upload, unless all
        bytes have arrived and the commit has begun: then the commit runs to its end first.
        """
        declared_sha1 = parse_checksum_header(checksum)
        if declared_sha1 == EMPTY_SHA1:
            raise EmptyFile
        if declared_sha1 is not None:
            known = await self._catalog.assets.get_by_checksum(user.id, declared_sha1)
            if known is not None:
                return UploadResult(created=False, asset_id=known.id)
        if self._check_media_location is not None:
            await self._check_media_location()
        quota_check = await self._load_quota(user, content_length)
        limits = BodyLimits(
            size=self._settings.upload_limit + MAX_SIDECAR_BYTES + MAX_OVERHEAD_BYTES,
            idle_seconds=self._settings.upload_idle_seconds,
            minimum_rate=self._settings.upload_minimum_rate,
        )
        size_limits = SizeLimits(self._settings.upload_limit, quota_check)
        upload = _Upload(self._catalog, self._storage, user, declared_sha1, size_limits, self._on_asset_added)
        with self._held_bytes.reserve(content_length) as upload.holds_original:
            async with aclosing(upload.stop_on_lost_lease(stream_body(receive, content_length, limits))) as body:
                reader = MultipartReader(content_type, body, file_fields=frozenset((ORIGINAL_PART, SIDECAR_PART)))
                return await _run_to_completion(upload, reader)

    async def _load_quota(self, user: User, content_length: int | None) -> QuotaCheck | None:
        if user.quota is None:
            return None
        usage = await self._catalog.uploads.read_usage(user.id)
        if usage is None:
            return None
        quota_check = QuotaCheck(*usage)
        if content_length is not None:
            quota_check.check(content_length - MAX_OVERHEAD_BYTES)
        return quota_check


async def _has_bytes(part: FilePart) -> bool:
    """False for a form's empty file input, which browsers send without name and bytes."""
    async for chunk in part.chunks:
        if chunk:
            return True
    return False


async def _run_to_completion(upload: _Upload, reader: MultipartReader) -> UploadResult:
    """Run the upload in its own task, so that a cancellation of the request does not interrupt a commit."""

    def cancel_unless_committing(task: asyncio.Task[UploadResult]) -> None:
        if not upload.is_committing:
            task.cancel()

    return await run_shielded(upload.run(reader), cancel_unless_committing, upload.is_outage)


class _Upload:
    """One upload. `is_committing`: the whole body has arrived and is valid, and the commit has begun. `holds_original`: the original is held in
    memory until then."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        user: User,
        declared_sha1: bytes | None,
        size_limits: SizeLimits,
        on_asset_added: Callable[[UUID], None] | None,
    ) -> None:
        self.is_committing = False
        self.holds_original = False
        self._all_stored = False
        self._catalog = catalog
        self._storage = storage
        self._user = user
        self._declared_sha1 = declared_sha1
        self._size_limits = size_limits
        self._insertion = AssetInsertion(catalog, user.id, on_asset_added)
        self._name = str(uuid4())
        self._fields = UploadFieldParser()
        self._files: list[File] = []
        self._original: UploadedFile | None = None
        self._sidecar: UploadedFile | None = None
        self._is_favorite = False
        self._lease_lost = False

    def is_outage(self, error: BaseException) -> bool:
        """True where the error belongs to an outage that is already logged."""
        return self._catalog.outages.record_failure(error, FailedWork.REQUEST)

    async def run(self, reader: MultipartReader) -> UploadResult:
        try:
            async with self._renewing_leases():
                return await self._receive(reader)
        except DuplicateContent as duplicate:
            await self._mark_for_deletion(timedelta(0))
            return await self._complete_existing(duplicate.asset.id, None)
        except BaseException as error:
            may_be_stored = self.is_committing or isinstance(error, StorageUnavailable)
            await self._mark_for_deletion(LATE_WRITE_GRACE if may_be_stored else timedelta(0))
            raise

    async def _receive(self, reader: MultipartReader) -> UploadResult:
        complete: Callable[[], Awaitable[UploadResult]]
        async with AsyncExitStack() as sidecar_writer:  # a clean exit commits the object, any other aborts it
            try:
                async with AsyncExitStack() as original_writer:
                    await self._read(reader, original_writer, sidecar_writer)
                    new, original = await self._validate()
                    await self._renew()
                    if original.pieces:
                        path = await self._begin_held(original)
                        self.is_committing = True
                        await self._write_held(original, path, original_writer)
                    self.is_committing = True
                    complete = partial(self._insert, new, original)
            except DuplicateContent as duplicate:
                if self._sidecar is None or duplicate.asset.sidecar_id is not None:
                    raise
                await self._discard_original()
                await self._renew()
                self.is_committing = True
                complete = partial(self._complete_existing, duplicate.asset.id, self._sidecar.to_stored_file())
        self._all_stored = True
        return await complete()

    async def stop_on_lost_lease(self, body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Passes the body on; raises `LeaseLost` once a lease is lost."""
        async with aclosing(body):
            async for chunk in body:
                if self._lease_lost:
                    raise LeaseLost
                yield chunk

    @asynccontextmanager
    async def _renewing_leases(self) -> AsyncIterator[None]:
        """Renews the files' leases in the background, also during the commit, which may take longer than a lease on a slow disk. Most uploads end
        before the first renewal, so that its task is started by a timer."""
        renewals: list[asyncio.Task[None]] = []

        def begin() -> None:
            renewals.append(asyncio.create_task(self._renew_periodically()))

        timer = asyncio.get_running_loop().call_later(RENEW_SECONDS, begin)
        try:
            yield
        finally:
            timer.cancel()
            for renewal in renewals:
                renewal.cancel()
                await asyncio.wait([renewal])

    async def _renew_periodically(self) -> None:
        while not self._lease_lost:
            try:
                await self._renew()
            except LeaseLost:
                self._lease_lost = True  # no consequence after the insert
            except CatalogError as error:
                if not self._catalog.outages.record_failure(error):
                    _log.warning("the leases of an upload are not renewed yet", exc_info=True)
            await asyncio.sleep(RENEW_SECONDS)

    async def _read(
        self, reader: MultipartReader, original_writer: AsyncExitStack, sidecar_writer: AsyncExitStack
    ) -> None:
        async with aclosing(reader.iter_parts()) as parts:
            async for part in parts:
                if isinstance(part, FormField):
                    self._fields.add(part.name, part.value)
                elif part.name == ORIGINAL_PART:
                    await self._read_original(part, original_writer)
                elif part.name == SIDECAR_PART and (part.filename or await _has_bytes(part)):
                    await self._read_sidecar(part, sidecar_writer)

    async def _read_original(self, part: FilePart, writer: AsyncExitStack) -> None:
        if self._original is not None:
            raise MalformedBody(f"The body has more than one {ORIGINAL_PART}")
        type_name = name = part.filename or ""
        if not extract_extension(name) and self._fields.filename:
            type_name = self._fields.filename
        format_ = find_named_format(type_name)
        self._original = await self._receive_file(part, FileKind.ORIGINAL, format_, self._size_limits, writer)

    async def _read_sidecar(self, part: FilePart, writer: AsyncExitStack) -> None:
        if self._sidecar is not None:
            raise MalformedBody(f"The body has more than one {SIDECAR_PART}")
        format_ = find_format(part.filename or "")
        if format_ is None or format_.kind is not MediaKind.SIDECAR:
            raise UnsupportedType(extract_extension(part.filename or ""))
        size_limits = SizeLimits(MAX_SIDECAR_BYTES, self._size_limits.quota)
        self._sidecar = await self._receive_file(part, FileKind.SIDECAR, format_, size_limits, writer)

    async def _receive_file(
        self, part: FilePart, kind: FileKind, named: MediaFormat, size_limits: SizeLimits, stack: AsyncExitStack
    ) -> UploadedFile:
        """Type and extension of the stored file are those of its content, which names may not tell."""
        head, chunks = await read_head(part.chunks, SIGNATURE_BYTES)
        format_ = named
        if kind is FileKind.ORIGINAL:
            if not head:
                raise EmptyFile
            format_ = find_content_format(head, named)
            if self.holds_original:
                held = await hold_file(chunks, size_limits)
                name = build_display_name(part.filename or "")
                return UploadedFile(uuid4(), name, named, format_, held.received, held.pieces)
        path = self._storage.managed_path(build_upload_key(self._user.id, self._name, format_))
        row = await self._catalog.files.begin_write(self._user.id, kind, path, format_.mime_type, UPLOAD_LEASE)
        self._files.append(row)
        writer = await stack.enter_async_context(self._storage.write(path, content_type=format_.mime_type))
        received = await receive_file(writer, chunks, size_limits)
        return UploadedFile(row.id, build_display_name(part.filename or ""), named, format_, received)

    async def _begin_held(self, original: UploadedFile) -> str:
        """Insert the row of a file that is held in memory. Returns its path. Raises `DuplicateContent`."""
        path = self._storage.managed_path(build_upload_key(self._user.id, self._name, original.format))
        begun = await self._catalog.duplicate_uploads.begin_unless_known(
            self._user.id, original.received.sha1, original.file_id, path, original.format.mime_type, UPLOAD_LEASE
        )
        if isinstance(begun, ExistingUpload):
            raise DuplicateContent(begun)
        self._files.append(begun)
        return path

    async def _write_held(self, original: UploadedFile, path: str, stack: AsyncExitStack) -> None:
        write = self._storage.write(path, size=original.received.size, content_type=original.format.mime_type)
        writer = await stack.enter_async_context(write)
        for piece in original.pieces:
            await writer.write(piece)

    async def _validate(self) -> tuple[NewAsset, UploadedFile]:
        """Checks the complete body. Returns the asset to insert and its original; raises to refuse the upload."""
        original = self._original
        if original is None:
            raise InvalidField(ORIGINAL_PART, "is required")
        fields = self._fields.finish()
        self._is_favorite = fields.is_favorite
        validate = self._insertion.describe if original.pieces else self._insertion.validate
        return await validate(fields, original, self._declared_sha1), original

    async def _insert(self, new: NewAsset, original: UploadedFile) -> UploadResult:
        sidecar = self._sidecar.to_stored_file() if self._sidecar is not None else None
        try:
            return await self._insertion.insert(new, original, sidecar)
        except DuplicateAsset as duplicate:
            return await self._complete_existing(duplicate.asset_id, sidecar)

    async def _complete_existing(self, asset_id: UUID, sidecar: StoredFile | None) -> UploadResult:
        return await self._insertion.complete_existing(asset_id, sidecar, is_favorite=self._is_favorite)

    async def _discard_original(self) -> None:
        """Marks the aborted original of a duplicate for deletion, while the sidecar is still to be stored."""
        discarded = [file for file in self._files if file.kind is FileKind.ORIGINAL]
        await self._catalog.files.mark_many_for_deletion([file.id for file in discarded])
        self._files = [file for file in self._files if file not in discarded]

    async def _renew(self) -> None:
        for file in tuple(self._files):
            if not await self._catalog.files.renew_lease(file.id, UPLOAD_LEASE):
                raise LeaseLost

    async def _mark_for_deletion(self, grace: timedelta) -> None:
        """Mark the files for deletion. A file that an insert of unknown outcome has made live stays live."""
        if not self._files:
            return
        files = self._catalog.files
        try:
            marked = await files.mark_many_for_deletion([file.id for file in self._files], grace)
            # A row may be gone: the sweeper may have run before the object was stored.
            if self.is_committing and marked < len(self._files):
                for file in self._files:
                    await files.mark_late_upload_for_deletion(file, timedelta(0) if self._all_stored else grace)
        except CatalogError as error:
            if not self._catalog.outages.record_failure(error):
                _log.warning("files of a failed upload are left to the sweeper until their lease ends", exc_info=True)
