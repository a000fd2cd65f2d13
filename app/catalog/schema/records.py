"""The rows of the catalogue, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypedDict
from uuid import UUID


class FileState(StrEnum):
    """See DESIGN section 5: `writing` before the first byte, `live` while referenced, `doomed` until it is swept."""

    WRITING = "writing"
    LIVE = "live"
    DOOMED = "doomed"


class FileKind(StrEnum):
    """What a file is to its asset or user; also chooses the folder of its key."""

    ORIGINAL = "original"
    EXTERNAL = "external"
    """An original of an external library, where its owner keeps it: never written, never deleted."""
    SIDECAR = "sidecar"
    THUMBNAIL = "thumbnail"
    PREVIEW = "preview"
    FULLSIZE = "fullsize"
    ENCODED_VIDEO = "encoded_video"
    MOTION = "motion"
    """The original of the hidden video that was found inside a photo."""
    PROFILE = "profile"
    PERSON = "person"


QUOTA_KINDS = (FileKind.ORIGINAL, FileKind.SIDECAR)
"""What counts against a quota: all else is made from it."""


class TaskKind(StrEnum):
    """What is to be made of an asset: everything that its type wants."""

    IMAGE = "image"
    VIDEO = "video"


class TaskState(StrEnum):
    """`pending` until somebody takes it (or takes it again, after a failed attempt), `failed` after the last attempt."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


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
    profile_file_id: UUID | None = None
    profile_changed_at: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class NewAsset:
    """An upload's asset, without its files. `metadata` is what the client wants kept with it."""

    id: UUID
    owner_id: UUID
    type: AssetType
    checksum: bytes
    original_file_name: str
    file_created_at: datetime
    file_modified_at: datetime
    local_date_time: datetime
    is_favorite: bool = False
    visibility: Visibility = Visibility.TIMELINE
    duration: int | None = None
    live_photo_video_id: UUID | None = None
    device_asset_id: str | None = None
    device_id: str | None = None
    metadata: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What became of a `writing` file's bytes: `size` in bytes, `sha1` 20 bytes, `crc32` as an unsigned number."""

    file_id: UUID
    size: int
    sha1: bytes
    crc32: int


@dataclass(frozen=True, slots=True)
class Derivative:
    """A file that was made from an asset's original."""

    asset_id: UUID
    kind: FileKind
    file: File


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done to an asset, and what became of it. There is one of each kind for an asset.

    `attempts` were begun and not given back, `error` is why the last one failed. `deaths` counts the processes that died, or were
    not heard of any more, while they worked on it: those are no attempts, for it is rarely the asset's fault. While it is `running`, `run_id` is who works on it, and `not_before`
    until when that is believed; while it is `pending`, nobody takes it before `not_before`. Priority 0 goes before 1.
    What was made before `requested_at` is to be made again.
    """

    id: UUID
    asset_id: UUID
    kind: TaskKind
    state: TaskState
    priority: int
    attempts: int
    deaths: int
    error: str | None
    run_id: UUID | None
    not_before: datetime
    requested_at: datetime
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Numbers of tasks of one kind. `delayed` are those of the pending ones whose time has not come."""

    pending: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    delayed: int = 0


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom a user's photos show. `thumbnail_file_id` was made of `thumbnail_asset_id`, and goes with it."""

    id: UUID
    owner_id: UUID
    name: str | None
    thumbnail_file_id: UUID | None
    thumbnail_asset_id: UUID | None
    created_at: datetime
    updated_at: datetime


class AssetChanges(TypedDict, total=False):
    """What may change of an asset; absent means unchanged."""

    is_favorite: bool
    visibility: Visibility
    file_created_at: datetime
    file_modified_at: datetime
    local_date_time: datetime
    duration: int | None
    width: int | None
    height: int | None
    thumbhash: bytes | None
    exif: dict[str, object] | None
    live_photo_video_id: UUID | None
    metadata: dict[str, object] | None


class SortKey(StrEnum):
    """What the assets that were found are sorted by."""

    FILE_CREATED_AT = "file_created_at"
    LOCAL_DATE_TIME = "local_date_time"
    FILE_SIZE = "size"


@dataclass(frozen=True, slots=True)
class AssetFilters:
    """What to search for; None means any. Moments and sizes (bytes of the original) are inclusive. `…_contains` are parts of texts, in any case
    and normalization. `exif`: what the named values are, None where there is to be none. `made_paths`: where derivatives are stored."""

    ids: tuple[UUID, ...] | None = None
    name_contains: str | None = None
    path_contains: str | None = None
    description_contains: str | None = None
    exif: Mapping[str, str | int | None] = field(default_factory=dict[str, str | int | None])
    min_file_size: int | None = None
    max_file_size: int | None = None
    made_paths: Mapping[FileKind, str] = field(default_factory=dict[FileKind, str])
    type: AssetType | None = None
    is_favorite: bool | None = None
    is_offline: bool | None = None
    is_motion: bool | None = None
    is_encoded: bool | None = None
    visibilities: frozenset[Visibility] = frozenset({Visibility.TIMELINE, Visibility.ARCHIVE})
    checksum: bytes | None = None
    device_asset_id: str | None = None
    device_id: str | None = None
    library_id: UUID | None = None
    taken_after: datetime | None = None
    taken_before: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    trashed_after: datetime | None = None
    trashed_before: datetime | None = None
    with_deleted: bool = False
    order_by: SortKey = SortKey.FILE_CREATED_AT
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class AssetStatistics:
    """Numbers of assets; `total` is both."""

    images: int
    videos: int
    total: int


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """What one user keeps, the trash included: numbers of assets, bytes of their originals. `used` is what counts against `quota`
    (sidecars too)."""

    user_id: UUID
    user_name: str
    photos: int
    videos: int
    usage: int
    usage_photos: int
    usage_videos: int
    used: int
    quota: int | None


@dataclass(frozen=True, slots=True)
class Archive:
    """A link to a zip. `manifest` is packed as `archives.manifest` does; the token itself is not kept. `credential_id`: the key or session
    that it ends with, None where only time ends it."""

    id: UUID
    owner_id: UUID
    name: str
    manifest: bytes
    created_at: datetime
    expires_at: datetime
    credential_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ArchiveLink:
    """An `Archive` without what it holds."""

    id: UUID
    name: str
    created_at: datetime
    expires_at: datetime
    credential_id: UUID | None
