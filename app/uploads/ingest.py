"""An upload from its first byte to the asset, in the order that keeps it: file row `writing`, object committed, then one
transaction that makes file and asset live, then the answer.

Whatever goes wrong before that transaction leaves no object that a row does not account for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, DuplicateAsset, FileGone, NotFound, QuotaExceeded
from app.catalog.files import LATE_EFFECT_GRACE
from app.catalog.outage import FailedWork
from app.catalog.records import AssetType, File, FileKind, NewAsset, StoredFile, User
from app.config import MEBIBYTE, Settings
from app.formats import Format, Kind, supported
from app.storage.errors import StorageUnavailable
from app.storage.key import Key
from app.storage.service import StorageService
from app.uploads.body import BodyLimits, Receive, body_chunks
from app.uploads.errors import (
    ChecksumMismatch,
    EmptyFile,
    InvalidField,
    LeaseLost,
    MalformedBody,
    UnsupportedType,
    UploadTooLarge,
)
from app.uploads.fields import FieldReader, UploadFields, parse_checksum
from app.uploads.multipart import MAX_OVERHEAD_BYTES, Field, FilePart, MultipartReader
from app.uploads.names import display_name, extension
from app.uploads.receive import Received, receive_file

LEASE = timedelta(minutes=15)
"""How long a file row keeps the sweeper away after it was last renewed."""
RENEW_SECONDS = 180.0
"""Between two renewals; a lease outlasts several that fail."""
MAX_SIDECAR_BYTES = 16 * MEBIBYTE
SHA1_OF_NOTHING = hashlib.sha1(usedforsecurity=False).digest()

ORIGINAL_PART = "assetData"
SIDECAR_PART = "sidecarData"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`created` is False for a duplicate, whose id is that of the asset that was there first."""

    created: bool
    asset_id: UUID


class Ingest:
    """Takes uploads into catalogue and storage."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        settings: Settings,
        admit_write: Callable[[], Awaitable[None]] | None = None,
        added: Callable[[UUID], None] | None = None,
    ) -> None:
        """`admit_write` raises a storage error while nothing may be written; `added` is told of each new asset and must not wait."""
        self._catalog = catalog
        self._storage = storage
        self._settings = settings
        self._admit_write = admit_write
        self._added = added

    async def upload(
        self,
        user: User,
        content_type: str | None,
        content_length: int | None,
        checksum: str | None,
        receive: Receive,
    ) -> Outcome:
        """Take in the body of one `POST /assets`; the arguments are its headers.

        What can be refused by the headers is refused before `receive` is called. Raises `UploadError`, `CatalogError`
        (`QuotaExceeded` among them) and `StorageError`; then nothing is kept. Cancelling it stops the upload, unless
        all bytes are in and its commit has begun: that is carried to its end first.
        """
        announced = parse_checksum(checksum)
        if announced == SHA1_OF_NOTHING:
            raise EmptyFile
        if announced is not None:
            known = await self._catalog.assets.by_checksum(user.id, announced)
            if known is not None:
                return Outcome(created=False, asset_id=known.id)
        if self._admit_write is not None:
            await self._admit_write()
        room = await self._room(user, content_length)
        limits = BodyLimits(
            size=self._settings.upload_limit + MAX_SIDECAR_BYTES + MAX_OVERHEAD_BYTES,
            idle_seconds=self._settings.upload_idle_seconds,
            minimum_rate=self._settings.upload_minimum_rate,
        )
        bounds = _Bounds(self._settings.upload_limit, room)
        upload = _Upload(self._catalog, self._storage, user, announced, bounds, self._added)
        async with aclosing(upload.while_leased(body_chunks(receive, content_length, limits))) as body:
            reader = MultipartReader(content_type, body, files=frozenset((ORIGINAL_PART, SIDECAR_PART)))
            return await _carry_out(upload, reader)

    async def _room(self, user: User, content_length: int | None) -> _Room | None:
        if user.quota is None:
            return None
        fresh = await self._catalog.users.get(user.id)
        if fresh is None or fresh.quota is None:
            return None
        room = _Room(fresh.quota, fresh.used)
        if content_length is not None:
            room.check(content_length - MAX_OVERHEAD_BYTES)
        return room


async def _has_bytes(part: FilePart) -> bool:
    """False for a form's file input that was left alone: no name, no bytes."""
    async for chunk in part.chunks:
        if chunk:
            return True
    return False


async def _carry_out(upload: _Upload, reader: MultipartReader) -> Outcome:
    """In a task of its own, so that a cancellation of the request can be held back once the commit has begun."""
    task = asyncio.create_task(upload.run(reader))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not upload.committing:
            task.cancel()
        error = await _failure_of(task)
        if error is not None and not upload.is_covered(error):
            _log.warning("upload failed after its request was cancelled", exc_info=error)
        raise


async def _failure_of(task: asyncio.Task[Outcome]) -> BaseException | None:
    """Once the task has ended."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue  # the caller raises it anyway, when the task has ended
    return None if task.cancelled() else task.exception()


@dataclass(frozen=True, slots=True)
class _Room:
    """What the user's quota left when the upload began, in bytes. The insert decides; this only spares the transfer."""

    quota: int
    used: int

    def check(self, size: int) -> None:
        if self.used + size > self.quota:
            raise QuotaExceeded(self.quota, self.used, size)


@dataclass(frozen=True, slots=True)
class _Bounds:
    limit: int
    room: _Room | None

    def __call__(self, size: int, /) -> None:
        if size > self.limit:
            raise UploadTooLarge(self.limit, "The file")
        if self.room is not None:
            self.room.check(size)


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A file whose bytes are with the store, not committed yet."""

    file_id: UUID
    name: str
    format: Format
    received: Received

    def display_name(self, wanted: str | None) -> str:
        """`wanted`, or the part's own name. Its extension never says something else than the type the file is sent as."""
        if wanted is None:
            return self.name
        named = supported(wanted)
        agrees = named is not None and named.kind is self.format.kind and named.scriptable is self.format.scriptable
        return wanted if agrees else display_name(wanted + self.format.extension)

    def stored(self) -> StoredFile:
        return StoredFile(self.file_id, self.received.size, self.received.sha1, self.received.crc32)


class _AlreadyThere(Exception):
    """The user has this content already: everything is undone, and its id answered."""

    def __init__(self, asset_id: UUID) -> None:
        self.asset_id = asset_id


class _Upload:
    """One upload. `committing`: all of the body is in and found right, objects and rows are about to become final."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        user: User,
        announced: bytes | None,
        bounds: _Bounds,
        added: Callable[[UUID], None] | None,
    ) -> None:
        self.committing = False
        self._catalog = catalog
        self._storage = storage
        self._user = user
        self._announced = announced
        self._bounds = bounds
        self._added = added
        self._name = str(uuid4())
        self._fields = FieldReader()
        self._files: list[File] = []
        self._original: _Arrived | None = None
        self._sidecar: _Arrived | None = None
        self._lost = False

    def is_covered(self, error: BaseException) -> bool:
        """Whether it is logged already."""
        return self._catalog.outages.covers(error, FailedWork.REQUEST)

    async def run(self, reader: MultipartReader) -> Outcome:
        try:
            async with self._leases_kept():
                async with AsyncExitStack() as writers:  # a clean exit commits the objects, any other aborts them
                    await self._read(reader, writers)
                    new, original = await self._accept()
                    await self._renew()
                    self.committing = True
                return await self._insert(new, original)
        except _AlreadyThere as found:
            await self._doom(timedelta(0))
            return Outcome(created=False, asset_id=found.asset_id)
        except BaseException as error:
            unknown = self.committing or isinstance(error, StorageUnavailable)
            await self._doom(LATE_EFFECT_GRACE if unknown else timedelta(0))
            raise

    async def while_leased(self, body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The body, until a lease is lost."""
        async with aclosing(body):
            async for chunk in body:
                if self._lost:
                    raise LeaseLost
                yield chunk

    @asynccontextmanager
    async def _leases_kept(self) -> AsyncIterator[None]:
        """Renew the files' leases in the background, also while the objects are committed: on a slow disk that outlasts a lease."""
        keeper = asyncio.create_task(self._keep_leases())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _keep_leases(self) -> None:
        while not self._lost:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._renew()
            except LeaseLost:
                self._lost = True  # once the insert is done, this says nothing more
            except CatalogError as error:
                if not self._catalog.outages.covers(error):
                    _log.warning("the leases of an upload are not renewed yet", exc_info=True)

    async def _read(self, reader: MultipartReader, writers: AsyncExitStack) -> None:
        async with aclosing(reader.parts()) as parts:
            async for part in parts:
                if isinstance(part, Field):
                    self._fields.add(part.name, part.value)
                elif part.name == ORIGINAL_PART:
                    await self._read_original(part, writers)
                elif part.name == SIDECAR_PART and (part.filename or await _has_bytes(part)):
                    await self._read_sidecar(part, writers)

    async def _read_original(self, part: FilePart, writers: AsyncExitStack) -> None:
        if self._original is not None:
            raise MalformedBody(f"The body has more than one {ORIGINAL_PART}")
        type_name = name = part.filename or ""
        if not extension(name) and self._fields.filename:
            type_name = self._fields.filename
        format_ = supported(type_name)
        if format_ is None or format_.kind is Kind.SIDECAR:
            raise UnsupportedType(extension(type_name))
        self._original = await self._receive(part, FileKind.ORIGINAL, format_, self._bounds, writers)
        if not self._original.received.size:
            raise EmptyFile

    async def _read_sidecar(self, part: FilePart, writers: AsyncExitStack) -> None:
        if self._sidecar is not None:
            raise MalformedBody(f"The body has more than one {SIDECAR_PART}")
        format_ = supported(part.filename or "")
        if format_ is None or format_.kind is not Kind.SIDECAR:
            raise UnsupportedType(extension(part.filename or ""))
        bounds = _Bounds(MAX_SIDECAR_BYTES, self._bounds.room)
        self._sidecar = await self._receive(part, FileKind.SIDECAR, format_, bounds, writers)

    async def _receive(
        self, part: FilePart, kind: FileKind, format_: Format, bounds: _Bounds, writers: AsyncExitStack
    ) -> _Arrived:
        name = f"{self._name}{format_.extension}"
        path = self._storage.managed_path(Key(f"upload/{self._user.id}/{name[:2]}/{name[2:4]}/{name}"))
        row = await self._catalog.files.begin(self._user.id, kind, path, format_.mime_type, LEASE)
        self._files.append(row)
        writer = await writers.enter_async_context(self._storage.write(path, content_type=format_.mime_type))
        received = await receive_file(writer, part.chunks, bounds)
        return _Arrived(row.id, display_name(part.filename or ""), format_, received)

    async def _accept(self) -> tuple[NewAsset, _Arrived]:
        """The whole body is in: what it amounts to, or why it is refused."""
        original = self._original
        if original is None:
            raise InvalidField(ORIGINAL_PART, "is required")
        fields = self._fields.finish()
        checksum = original.received.sha1
        if self._announced not in (None, checksum):
            raise ChecksumMismatch
        if fields.live_photo_video_id is not None:
            if original.format.kind is not Kind.IMAGE:
                raise InvalidField("livePhotoVideoId", "is for photos only")
            video = await self._catalog.assets.get_owned(self._user.id, fields.live_photo_video_id)
            if video is None or video.type is not AssetType.VIDEO:
                raise InvalidField("livePhotoVideoId", "is no video of yours")
        known = await self._catalog.assets.by_checksum(self._user.id, checksum)
        if known is not None:
            raise _AlreadyThere(known.id)
        return self._new_asset(fields, original), original

    def _new_asset(self, fields: UploadFields, original: _Arrived) -> NewAsset:
        return NewAsset(
            id=uuid4(),
            owner_id=self._user.id,
            type=AssetType.VIDEO if original.format.kind is Kind.VIDEO else AssetType.IMAGE,
            checksum=original.received.sha1,
            original_file_name=original.display_name(fields.filename),
            file_created_at=fields.file_created_at,
            file_modified_at=fields.file_modified_at,
            local_date_time=fields.local_date_time,
            is_favorite=fields.is_favorite,
            visibility=fields.visibility,
            duration=fields.duration,
            live_photo_video_id=fields.live_photo_video_id,
            device_asset_id=fields.device_asset_id,
            device_id=fields.device_id,
            metadata=fields.metadata,
        )

    async def _insert(self, new: NewAsset, original: _Arrived) -> Outcome:
        sidecar = self._sidecar.stored() if self._sidecar is not None else None
        try:
            asset = await self._catalog.assets.insert(new, original.stored(), sidecar)
        except DuplicateAsset as duplicate:
            return Outcome(created=False, asset_id=duplicate.asset_id)
        except FileGone:
            raise LeaseLost from None
        except NotFound as missing:
            if new.live_photo_video_id in missing.ids:
                raise InvalidField("livePhotoVideoId", "is no video of yours") from None
            raise
        if self._added is not None:
            self._added(asset.id)
        return Outcome(created=True, asset_id=asset.id)

    async def _renew(self) -> None:
        for file in tuple(self._files):
            if not await self._catalog.files.renew(file.id, LEASE):
                raise LeaseLost

    async def _doom(self, grace: timedelta) -> None:
        """Give the files to the sweeper. One that an insert of unknown outcome made live stays live."""
        if not self._files:
            return
        files = self._catalog.files
        try:
            doomed = await files.doom_many([file.id for file in self._files], grace)
            if self.committing and doomed < len(self._files):  # swept perhaps before its object was stored
                for file in self._files:
                    await files.bury(file)
        except CatalogError as error:
            if not self._catalog.outages.covers(error):
                _log.warning("files of a failed upload are left to the sweeper until their lease ends", exc_info=True)
