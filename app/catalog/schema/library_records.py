"""The catalogue's rows of external libraries, and what a scan hands over, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypedDict
from uuid import UUID

from app.catalog.schema.records import AssetType

ListedFile = tuple[str, int, int, int, int]
"""A file as a folder's listing gives it: name, device, inode, size (bytes), modification time (nanoseconds since 1970). A bare tuple:
there are hundreds of thousands of them, they are compared whole, and nothing else costs as little."""


class LibraryState(StrEnum):
    OK = "ok"
    UNMOUNTED = "unmounted"
    """Its files are not to be seen, in a way that looks like a disk that is away and not like files that were deleted."""


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a scan saw and did, in numbers of files. `complete`: it saw all of the library, and left out no file that was still being
    written. `unreadable` names the first of
    `unreadable_count` places that could not be taken in. `refused` says why missing files were not moved to the trash, where that is so."""

    started_at: datetime
    seconds: float = 0.0
    complete: bool = False
    found: int = 0
    new: int = 0
    changed: int = 0
    renamed: int = 0
    back: int = 0
    trashed: int = 0
    unreadable_count: int = 0
    unreadable: tuple[str, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Library:
    """A read-only folder tree. `files` and `scanned_at` are those of the last complete scan, `mounts` the paths of the mount
    points that the last scan of all of it saw. `deleted_at`: since when it is being removed. `watch` says how it is watched at the moment;
    None where it is not."""

    id: UUID
    owner_id: UUID
    name: str
    import_paths: tuple[str, ...]
    exclusion_patterns: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    state: LibraryState
    state_since: datetime
    state_error: str | None
    scanned_at: datetime | None
    files: int
    mounts: tuple[str, ...]
    watch: str | None
    last_scan: ScanReport | None


class LibraryChanges(TypedDict, total=False):
    """What may change of a library; absent means unchanged."""

    name: str
    import_paths: tuple[str, ...]
    exclusion_patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LibraryUsage:
    """Numbers of assets that are not in the trash; `usage` in bytes."""

    photos: int
    videos: int
    total: int
    usage: int


class KnownFolder(NamedTuple):
    """`digest` stands for all files that were there at the last scan; None where they must be compared one by one."""

    id: UUID
    path: str
    digest: bytes | None


class KnownFile(NamedTuple):
    """A file of a library as the catalogue knows it, with the fields of `ListedFile`; `missing`: it was gone."""

    asset_id: UUID
    folder_id: UUID
    name: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    missing: bool


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A found file with what follows from its name and time."""

    folder: str
    listed: ListedFile
    type: AssetType
    mime_type: str
    modified: datetime

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.listed[0]}"


@dataclass(slots=True)
class ScanChanges:
    """What one batch of a scan writes, in one transaction."""

    new: list[ScannedFile] = field(default_factory=list)
    changed: list[tuple[UUID, ScannedFile]] = field(default_factory=list)
    renamed: list[tuple[UUID, ScannedFile]] = field(default_factory=list)
    displaced: list[tuple[UUID, ScannedFile]] = field(default_factory=list)
    """Known files whose name is now that of a renamed or a new one; where they are themselves shows elsewhere in the scan."""
    returned: list[UUID] = field(default_factory=list)
    refreshed: list[tuple[UUID, ListedFile]] = field(default_factory=list)
    """Other device or inode, same content: after a remount."""
    digests: dict[str, bytes | None] = field(default_factory=dict)
    """By the folder's path."""
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    """Filled when they are written: paths, each with who holds it, that belong to somebody else. They are taken off the other lists."""
    to_process: list[UUID] = field(default_factory=list)
    """Filled when they are written: the assets that have a new task."""
