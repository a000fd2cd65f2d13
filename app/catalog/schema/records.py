"""Immutable records of users, credentials, files, assets, tasks and archives, as the catalogue returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypedDict
from uuid import UUID


class FileState(StrEnum):
    """`writing`: before and during the write of the object. `live`: referenced. `doomed`: marked for deletion, until
    the sweeper has deleted the object."""

    WRITING = "writing"
    LIVE = "live"
    DOOMED = "doomed"


class FileKind(StrEnum):
    """The role of a file for its asset or user; it also selects the folder of the file's key."""

    ORIGINAL = "original"
    EXTERNAL = "external"
    """An original of an external library, at its owner's path: never written, never deleted."""
    SIDECAR = "sidecar"
    THUMBNAIL = "thumbnail"
    PREVIEW = "preview"
    FULLSIZE = "fullsize"
    ENCODED_VIDEO = "encoded_video"
    MOTION = "motion"
    """The original of a hidden video that was extracted from a photo."""
    PROFILE = "profile"
    PERSON = "person"


QUOTA_KINDS = (FileKind.ORIGINAL, FileKind.SIDECAR)
"""The kinds that count against a quota."""


class TaskKind(StrEnum):
    """The processing of an asset. A task makes all derivatives that the asset's type needs."""

    IMAGE = "image"
    VIDEO = "video"


class TaskState(StrEnum):
    """`pending`: not taken, also between two attempts. `failed`: after the last attempt."""

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
    """`quota` (None: unlimited) and `used` in bytes. `password_hash` is Argon2id's text, or bcrypt's of a user who comes
    from Immich and has not logged in since; None: login is not possible."""

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
    """The key itself is not stored; its SHA-256 is in the table and not in this record. `permissions` are Immich's
    names; `all` is one of them. `is_imported`: it was made at Immich."""

    id: UUID
    user_id: UUID
    name: str
    permissions: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    is_imported: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """A login. Only the SHA-256 of its token is stored. `api_key_id`: the session has the permissions of this key and ends with it;
    None: all permissions. `is_foreign`: a login at Immich, which may only view and download here."""

    id: UUID
    user_id: UUID
    expires_at: datetime
    created_at: datetime
    api_key_id: UUID | None = None
    device_type: str = ""
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """One stored object. `path` is a local path or an `s3://` URI. `size` (bytes), `sha1` (20 bytes) and `crc32` are
    known when the file is live; `sha1` and `crc32` of an external or foreign file only once it has been read.
    `not_before`: the sweeper leaves the file alone until then. `is_foreign`: the object belongs to another program, and is
    read where it lies; it is never written, renamed or deleted, and always `live`. `copy_path`: of its verified copy.
    `copy_of`: this object is (or will be) a copy of the foreign file with this id, whose row may be gone."""

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
    is_foreign: bool = False
    copy_path: str | None = None
    copy_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file to be taken over where it lies. `path` is absolute. `size` in bytes; `sha1` (20 bytes) and `crc32` where they are
    known."""

    id: UUID
    owner_id: UUID
    kind: FileKind
    path: str
    size: int
    mime_type: str
    sha1: bytes | None = None
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    """One photo or video with its original `file`. `duration` in milliseconds, `width` and `height` in pixels.
    `deleted_at`: when it was moved to the trash. `sidecar_error`: why the sidecar was ignored when the metadata was
    read."""

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
    sidecar_error: str | None = None


@dataclass(frozen=True, slots=True)
class NewAsset:
    """The asset of an upload, without its files. `metadata` is stored for the client and not interpreted."""

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
    """The result of a write: `size` in bytes, `sha1` as 20 bytes, `crc32` as an unsigned number."""

    file_id: UUID
    size: int
    sha1: bytes
    crc32: int


@dataclass(frozen=True, slots=True)
class Derivative:
    """A file that was made from an asset's original, such as a thumbnail."""

    asset_id: UUID
    kind: FileKind
    file: File


@dataclass(frozen=True, slots=True)
class Task:
    """The processing of an asset, and its outcome. An asset has at most one task of each kind.

    `attempts` counts attempts that were begun and not released; `error` is the reason of the last failure. `deaths`
    counts processes that died, or stopped renewing the lease, while they worked on the task; they do not count as
    attempts, as the asset is rarely the cause. While the task is `running`, `run_id` identifies the run that works on
    it, and `not_before` is the end of its lease. While the task is `pending`, it is not taken before `not_before`.
    Priority 0 goes before 1. Derivatives made before `requested_at` are made again.
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
    """Counts of tasks of one kind. `delayed`: pending tasks that are not due yet."""

    pending: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    delayed: int = 0


@dataclass(frozen=True, slots=True)
class Person:
    """A person in a user's photos. `thumbnail_file_id` was cut from `thumbnail_asset_id`, and is removed with it."""

    id: UUID
    owner_id: UUID
    name: str | None
    thumbnail_file_id: UUID | None
    thumbnail_asset_id: UUID | None
    created_at: datetime
    updated_at: datetime


class AssetChanges(TypedDict, total=False):
    """The fields of an asset that may change; an absent key means unchanged."""

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
    """The field by which found assets are sorted."""

    FILE_CREATED_AT = "file_created_at"
    LOCAL_DATE_TIME = "local_date_time"
    FILE_SIZE = "size"


@dataclass(frozen=True, slots=True)
class AssetFilters:
    """Conditions of a search; None means any. Times and sizes (bytes of the original) are inclusive. `…_contains` match
    parts of texts in any case and normalization. `exif` maps EXIF fields to values; the value None matches assets
    without the field. `made_paths` are storage paths of derivatives by kind."""

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
class ChecksumHolder:
    """The asset that has a checksum."""

    id: UUID
    is_trashed: bool


@dataclass(frozen=True, slots=True)
class AssetStatistics:
    """Counts of assets; `total` is the sum of both."""

    images: int
    videos: int
    total: int


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """A user's assets, including the trash: counts, and bytes of their originals. `used` is what counts against `quota`
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
    """A link to a zip. `manifest` is packed by `archives.manifest`; the token itself is not stored. `credential_id`:
    the API key or session whose end also ends the link; None: only `expires_at` ends it."""

    id: UUID
    owner_id: UUID
    name: str
    manifest: bytes
    created_at: datetime
    expires_at: datetime
    credential_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ArchiveLinkSummary:
    """An `Archive` without owner and manifest."""

    id: UUID
    name: str
    created_at: datetime
    expires_at: datetime
    credential_id: UUID | None
