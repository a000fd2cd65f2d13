"""Rows of another installation's catalogue, in the form in which they are taken over. All are immutable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.catalog.schema.records import AssetType, FileKind, Visibility


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file where it lies. `id` follows from what it belongs to, so that a repeated import finds the same row. `size` in bytes;
    `sha1`: 20 bytes, None if it is not known."""

    id: UUID
    kind: FileKind
    path: str
    size: int
    mime_type: str
    sha1: bytes | None = None


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Of a library's file, as a scan stores it."""

    device: int
    inode: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ImportedAsset:
    """An asset with its own id. `checksum`: the SHA-1 of its content, if that is known. `identity` belongs to the original, and is used for
    libraries only. `exif` has the names of `MediaMetadata`."""

    id: UUID
    owner_id: UUID
    type: AssetType
    original: ImportedFile
    identity: FileIdentity
    sidecar: ImportedFile | None
    derivatives: tuple[ImportedFile, ...]
    checksum: bytes | None
    original_file_name: str
    file_created_at: datetime
    file_modified_at: datetime
    local_date_time: datetime
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    is_favorite: bool
    is_offline: bool
    visibility: Visibility
    duration: int | None
    width: int | None
    height: int | None
    thumbhash: bytes | None
    exif: dict[str, object] | None
    live_photo_video_id: UUID | None
    library_id: UUID | None
    device_asset_id: str | None
    device_id: str | None
