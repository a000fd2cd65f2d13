"""Rows of another installation's catalogue, in the form in which they are taken over. All are immutable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.catalog.schema.records import AssetType, FileKind, Visibility


class ImportPhase(StrEnum):
    """What a run that compares everything does next."""

    ASSETS = "assets"
    VANISHED = "vanished"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class ImportSource:
    """How far an installation of Immich was taken over. `after_id`: the last asset of the unfinished run; `begun_at`: when that run, or
    the last one, began, by the clock of Immich's database. Everything that Immich wrote before `followed_to` was seen; `compared_at`:
    when all rows were compared. `users`: the addresses that were chosen; None: all."""

    name: str
    media_roots: tuple[str, ...]
    users: tuple[str, ...] | None
    phase: ImportPhase
    after_id: UUID | None
    begun_at: datetime
    followed_to: datetime | None
    compared_at: datetime | None


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
    """An asset with its own id. `checksum`: the SHA-1 of its content, if the source knows it; None too where the file has not the size that
    belongs to the source's. `identity` belongs to the original, and is used for libraries only. `exif` has the names of `MediaMetadata`."""

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
    named: frozenset[FileKind] = frozenset()
    """Kinds of files beside the original that the source has, whether they could be found or not."""


@dataclass(frozen=True, slots=True)
class ImportedUser:
    """`password_hash`: as the source has it, None where no login is possible. `quota` in bytes."""

    id: UUID
    email: str
    name: str
    is_admin: bool
    quota: int | None
    password_hash: str | None
    profile_image: ImportedFile | None
    profile_changed_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ImportedKey:
    """`key_hash`: the SHA-256 of the key."""

    id: UUID
    user_id: UUID
    name: str
    key_hash: bytes
    permissions: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ImportedSession:
    """`token_hash`: the SHA-256 of the token."""

    id: UUID
    user_id: UUID
    token_hash: bytes
    expires_at: datetime
    created_at: datetime
    device_type: str


@dataclass(frozen=True, slots=True)
class ImportedLibrary:
    id: UUID
    owner_id: UUID
    name: str
    import_paths: tuple[str, ...]
    exclusion_patterns: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ImportedPerson:
    id: UUID
    owner_id: UUID
    name: str | None
    thumbnail: ImportedFile | None
    created_at: datetime
    updated_at: datetime
