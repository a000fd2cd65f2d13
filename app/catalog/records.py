"""The rows of the catalogue, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class FileState(StrEnum):
    """See DESIGN section 5: `writing` before the first byte, `live` while referenced, `doomed` until it is swept."""

    WRITING = "writing"
    LIVE = "live"
    DOOMED = "doomed"


class FileKind(StrEnum):
    """What a file is to its asset or user; also chooses the folder of its key."""

    ORIGINAL = "original"
    SIDECAR = "sidecar"


class AssetType(StrEnum):
    """Immich's names."""

    IMAGE = "IMAGE"
    VIDEO = "VIDEO"
    AUDIO = "AUDIO"
    OTHER = "OTHER"


class Visibility(StrEnum):
    """Immich's names."""

    ARCHIVE = "archive"
    TIMELINE = "timeline"
    HIDDEN = "hidden"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class User:
    """`quota` and `used` in bytes; no quota is None. `password_hash` is Argon2id's text, None where no login is possible."""

    id: UUID
    email: str
    name: str
    is_admin: bool
    quota: int | None
    used: int
    password_hash: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The key itself is not kept, only its SHA-256 (in the table, not here). `permissions` are Immich's names, `all` among them."""

    id: UUID
    user_id: UUID
    name: str
    permissions: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A login; its token is kept as SHA-256 only."""

    id: UUID
    user_id: UUID
    expires_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class File:
    """One stored object. `path` is a local path or an `s3://` URI. `size` (bytes), `sha1` (20 bytes) and `crc32` are known once it is
    live. `not_before`: the sweeper leaves it alone until then."""

    id: UUID
    owner_id: UUID
    kind: FileKind
    path: str
    state: FileState
    size: int | None
    sha1: bytes | None
    crc32: int | None
    mime_type: str
    created_at: datetime
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Asset:
    """One photo or video with its original `file`. `duration` in milliseconds, `width` and `height` in pixels. `deleted_at`: since when in the trash."""

    id: UUID
    owner_id: UUID
    type: AssetType
    file: File
    sidecar_id: UUID | None
    checksum: bytes | None
    original_file_name: str
    file_created_at: datetime
    file_modified_at: datetime
    local_date_time: datetime
    created_at: datetime
    updated_at: datetime
    is_favorite: bool
    visibility: Visibility
    duration: int | None
    width: int | None
    height: int | None
    thumbhash: bytes | None
    exif: dict[str, object] | None
    live_photo_video_id: UUID | None
    library_id: UUID | None
    is_offline: bool
    deleted_at: datetime | None
    device_asset_id: str | None
    device_id: str | None
