"""`AssetInsertion`: makes the asset of an upload whose bytes are all there. Shared by all ways in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from uuid import UUID, uuid4

from app.catalog.assets.duplicate_uploads import DuplicateAddition, ExistingUpload
from app.catalog.catalog import Catalog
from app.catalog.errors import NotFound, WriteLeaseLost
from app.catalog.schema.records import Asset, AssetType, NewAsset, StoredFile
from app.catalog.uploads.upload_rows import UploadCompletion
from app.formats import MediaFormat, MediaKind
from app.storage.key import Key
from app.uploads.errors import ChecksumMismatch, InvalidField, LeaseLost
from app.uploads.fields import UploadFields
from app.uploads.upload_result import UploadResult
from app.uploads.uploaded_file import UploadedFile

EMPTY_SHA1 = hashlib.sha1(usedforsecurity=False).digest()


class DuplicateContent(Exception):
    """The user already has this content as `asset`: the original is not stored."""

    def __init__(self, asset: Asset | ExistingUpload) -> None:
        self.asset = asset


def build_upload_key(owner_id: UUID, name: str, format_: MediaFormat) -> Key:
    """The key of an uploaded file; `name` is random text."""
    return Key(f"upload/{owner_id}/{name[:2]}/{name[2:4]}/{name}{format_.extension}")


class AssetInsertion:
    """Inserts the assets of one user. `on_asset_added` is called with the id of each asset that has a task to do."""

    def __init__(self, catalog: Catalog, owner_id: UUID, on_asset_added: Callable[[UUID], None] | None) -> None:
        self._catalog = catalog
        self._owner_id = owner_id
        self._on_asset_added = on_asset_added

    async def validate(self, fields: UploadFields, original: UploadedFile, declared_sha1: bytes | None) -> NewAsset:
        """The asset to insert. Raises `DuplicateContent`, and `UploadError`s that refuse the upload."""
        new = await self.describe(fields, original, declared_sha1)
        known = await self._catalog.assets.get_by_checksum(self._owner_id, new.checksum)
        if known is not None:
            raise DuplicateContent(known)
        return new

    async def describe(self, fields: UploadFields, original: UploadedFile, declared_sha1: bytes | None) -> NewAsset:
        """As `validate`, for a caller that looks for duplicates itself."""
        checksum = original.received.sha1
        if declared_sha1 not in (None, checksum):
            raise ChecksumMismatch
        if fields.live_photo_video_id is not None:
            if original.format.kind is not MediaKind.IMAGE:
                raise InvalidField("livePhotoVideoId", "is for photos only")
            video = await self._catalog.assets.get_owned(self._owner_id, fields.live_photo_video_id)
            if video is None or video.type is not AssetType.VIDEO:
                raise InvalidField("livePhotoVideoId", "is no video of yours")
        return self._new_asset(fields, original)

    async def insert(
        self,
        new: NewAsset,
        original: UploadedFile,
        sidecar: StoredFile | None = None,
        *,
        completion: UploadCompletion | None = None,
    ) -> UploadResult:
        """See `AssetRepository.insert`. Raises `DuplicateAsset`, `LeaseLost`, `InvalidField`, …"""
        try:
            asset = await self._catalog.assets.insert(new, original.to_stored_file(), sidecar, completion=completion)
        except WriteLeaseLost:
            raise LeaseLost from None
        except NotFound as missing:
            if new.live_photo_video_id in missing.ids:
                raise InvalidField("livePhotoVideoId", "is no video of yours") from None
            raise
        if self._on_asset_added is not None:
            self._on_asset_added(asset.id)
        return UploadResult(created=True, asset_id=asset.id)

    async def complete_existing(self, asset_id: UUID, sidecar: StoredFile | None, *, is_favorite: bool) -> UploadResult:
        """Adds to the existing asset what it lacks."""
        added: tuple[DuplicateAddition, ...] = ()
        if sidecar is not None or is_favorite:
            try:
                added = await self._catalog.duplicate_uploads.complete_asset(
                    self._owner_id, asset_id, sidecar, is_favorite=is_favorite
                )
            except WriteLeaseLost:
                raise LeaseLost from None
        if DuplicateAddition.SIDECAR in added and self._on_asset_added is not None:
            self._on_asset_added(asset_id)
        return UploadResult(created=False, asset_id=asset_id, added=added)

    def _new_asset(self, fields: UploadFields, original: UploadedFile) -> NewAsset:
        return NewAsset(
            id=uuid4(),
            owner_id=self._owner_id,
            type=AssetType.VIDEO if original.format.kind is MediaKind.VIDEO else AssetType.IMAGE,
            checksum=original.received.sha1,
            original_file_name=original.choose_display_name(fields.filename),
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
