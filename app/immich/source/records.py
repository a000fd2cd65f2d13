"""Rows of Immich's tables, as they are read: names and values are Immich's."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class UnusableDate:
    """A date that Python cannot hold: infinite, before the year 1 or after 9999."""

    text: str


SourceDate = datetime | UnusableDate | None


@dataclass(frozen=True, slots=True)
class SourceUser:
    """`quota` and `quota_usage` in bytes. `password` is bcrypt's text."""

    id: UUID
    email: str
    name: str
    password: str | None
    is_admin: bool
    quota: int | None
    quota_usage: int | None
    profile_image_path: str | None
    profile_changed_at: SourceDate
    created_at: SourceDate
    updated_at: SourceDate
    deleted_at: SourceDate


@dataclass(frozen=True, slots=True)
class SourceKey:
    """`key_hash`: the SHA-256 of the key's text; None when the column holds something else."""

    id: UUID
    user_id: UUID
    name: str
    key_hash: bytes | None
    permissions: tuple[str, ...]
    created_at: SourceDate
    updated_at: SourceDate


@dataclass(frozen=True, slots=True)
class SourceSession:
    """`token_hash`: the SHA-256 of the token, None if it is unusable. `expires_at` None: not by a date."""

    id: UUID
    user_id: UUID
    token_hash: bytes | None
    expires_at: SourceDate
    created_at: SourceDate
    device_type: str


@dataclass(frozen=True, slots=True)
class SourceLibrary:
    id: UUID
    owner_id: UUID
    name: str
    import_paths: tuple[str, ...]
    exclusion_patterns: tuple[str, ...]
    created_at: SourceDate
    updated_at: SourceDate
    deleted_at: SourceDate


@dataclass(frozen=True, slots=True)
class SourcePerson:
    id: UUID
    owner_id: UUID
    name: str | None
    thumbnail_path: str | None
    created_at: SourceDate
    updated_at: SourceDate


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of an asset beside its original. `type` is one of `asset_file.type`, also one that only a later version has."""

    type: str
    path: str
    is_edited: bool


@dataclass(frozen=True, slots=True)
class SourceAsset:
    """A row of `asset` with its row of `asset_exif` and the rows of `asset_file`. `checksum` is that of the content, or, with
    `is_path_checksum`, of the path."""

    id: UUID
    owner_id: UUID
    type: str
    original_path: str
    original_file_name: str
    file_created_at: SourceDate
    file_modified_at: SourceDate
    local_date_time: SourceDate
    created_at: SourceDate
    updated_at: SourceDate
    deleted_at: SourceDate
    checksum: bytes
    is_path_checksum: bool
    is_favorite: bool
    visibility: str
    status: str
    is_offline: bool
    is_external: bool
    library_id: UUID | None
    live_photo_video_id: UUID | None
    duration: str | int | None
    width: int | None
    height: int | None
    thumbhash: bytes | None
    device_asset_id: str | None
    device_id: str | None
    exif: dict[str, Any] | None
    files: list[SourceFile] = field(default_factory=list)
    moves: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of moves that were interrupted: the two paths by type."""

    @property
    def recorded_size(self) -> int | None:
        """Bytes of the original, as Immich has read them."""
        return None if self.exif is None else self.exif.get("fileSizeInByte")
