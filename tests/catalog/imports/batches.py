"""Assets of an installation of Immich, as they are handed to `imported_assets`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from app.catalog.schema.import_records import FileIdentity, ImportedAsset, ImportedFile
from app.catalog.schema.records import AssetType, FileKind, Visibility
from app.immich.translation import file_id

ROOT = "/srv/photos"
SIZE = 100
_DAY = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Source:
    """A user and their library."""

    owner_id: UUID
    library_id: UUID

    def listed(self, name: str) -> ImportedAsset:
        """A file of the library, whose content is not known."""
        return self._build(name, FileKind.EXTERNAL, self.library_id, None)

    def uploaded(self, name: str, sha1: bytes | None) -> ImportedAsset:
        return self._build(name, FileKind.ORIGINAL, None, sha1)

    def _build(self, name: str, kind: FileKind, library_id: UUID | None, sha1: bytes | None) -> ImportedAsset:
        asset_id = uuid4()
        return ImportedAsset(
            id=asset_id,
            owner_id=self.owner_id,
            type=AssetType.IMAGE,
            original=ImportedFile(
                file_id(asset_id, FileKind.ORIGINAL), kind, f"{ROOT}/{name}", SIZE, "image/jpeg", sha1
            ),
            identity=FileIdentity(1, 2, 3),
            sidecar=None,
            derivatives=(),
            checksum=sha1,
            original_file_name=name,
            file_created_at=_DAY,
            file_modified_at=_DAY,
            local_date_time=_DAY,
            created_at=_DAY,
            updated_at=_DAY,
            deleted_at=None,
            is_favorite=False,
            is_offline=False,
            visibility=Visibility.TIMELINE,
            duration=None,
            width=32,
            height=24,
            thumbhash=None,
            exif=None,
            live_photo_video_id=None,
            library_id=library_id,
            device_asset_id=None,
            device_id=None,
        )


def moved(asset: ImportedAsset, name: str) -> ImportedAsset:
    """The asset, with its file at another path."""
    return replace(asset, original=replace(asset.original, path=f"{ROOT}/{name}"))


def with_preview(asset: ImportedAsset, name: str, mime_type: str = "image/jpeg") -> ImportedAsset:
    preview = ImportedFile(
        file_id(asset.id, FileKind.PREVIEW), FileKind.PREVIEW, f"{ROOT}/{name}", SIZE, mime_type, None
    )
    return replace(asset, derivatives=(preview,), named=frozenset({FileKind.PREVIEW}))


def edited(asset: ImportedAsset, *, days: int = 1) -> ImportedAsset:
    """The asset, with a file of the same size that was written later."""
    modified = asset.file_modified_at + timedelta(days=days)
    identity = replace(asset.identity, mtime_ns=asset.identity.mtime_ns + days)
    return replace(asset, file_modified_at=modified, identity=identity)
