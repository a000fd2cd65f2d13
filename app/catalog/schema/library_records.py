"""Records of external libraries, and the values that a scan passes to the catalogue. All but `ScanChanges` are
immutable."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypedDict
from uuid import UUID

from app.catalog.schema.records import AssetType

ListedFile = tuple[str, int, int, int, int]
"""A file in a folder's listing: name, device, inode, size (bytes), modification time (nanoseconds since 1970). It is a
plain tuple for speed and memory: a scan makes hundreds of thousands of them and compares them whole."""


ListedSidecar = tuple[str, int, int]
"""The XMP sidecar of a file: name, size (bytes), modification time (nanoseconds since 1970). It is in the same folder, and may belong to several
files."""


class LibraryState(StrEnum):
    OK = "ok"
    UNMOUNTED = "unmounted"
    """The files cannot be seen, and this looks like an unmounted disk and not like deleted files."""


@dataclass(frozen=True, slots=True)
class ScanReport:
    """The result of a scan; counts are files. `complete`: the scan saw the whole library and left out no file that was
    still being written. `changed` includes files whose sidecar has come, changed or gone. `back`: missing files that were found again. `unreadable` names the first of `unreadable_count`
    paths that could not be read. `refused` says why missing files were not moved to the trash, if they were not."""

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
    """A read-only folder tree. `files` and `scanned_at` belong to the last complete scan; `mounts` are the mount points
    that the last scan of the whole library saw. `deleted_at`: when its removal began. `watch` describes how the library
    is watched at the moment; None: it is not. `is_foreign`: Immich scans it, and this service does not."""

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
    is_foreign: bool = False


class LibraryChanges(TypedDict, total=False):
    """The fields of a library that may change; an absent key means unchanged."""

    name: str
    import_paths: tuple[str, ...]
    exclusion_patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LibraryUsage:
    """Counts of assets that are not in the trash; `usage` in bytes."""

    photos: int
    videos: int
    total: int
    usage: int


class KnownFolder(NamedTuple):
    """A folder of a library. `digest` covers all files at the last scan; None: the files must be compared one by one."""

    id: UUID
    path: str
    digest: bytes | None


class KnownFile(NamedTuple):
    """A file of a library in the catalogue, with the fields of `ListedFile`. `missing`: the last scan did not find it."""

    asset_id: UUID
    folder_id: UUID
    name: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    missing: bool
    sidecar_name: str | None = None
    sidecar_size: int | None = None
    sidecar_mtime_ns: int | None = None

    @property
    def sidecar(self) -> ListedSidecar | None:
        if self.sidecar_name is None or self.sidecar_size is None or self.sidecar_mtime_ns is None:
            return None
        return self.sidecar_name, self.sidecar_size, self.sidecar_mtime_ns


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file that a scan found, with the type and time derived from its name and modification time."""

    folder: str
    listed: ListedFile
    type: AssetType
    mime_type: str
    modified: datetime
    sidecar: ListedSidecar | None = None

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.listed[0]}"


@dataclass(slots=True)
class ScanChanges:
    """The changes that one batch of a scan writes, in one transaction."""

    new: list[ScannedFile] = field(default_factory=list)
    changed: list[tuple[UUID, ScannedFile]] = field(default_factory=list)
    renamed: list[tuple[UUID, ScannedFile]] = field(default_factory=list)
    displaced: list[tuple[UUID, ScannedFile]] = field(default_factory=list)
    """Known files whose name now belongs to a renamed or new file; the scan finds elsewhere where they are themselves."""
    returned: list[UUID] = field(default_factory=list)
    refreshed: list[tuple[UUID, ListedFile]] = field(default_factory=list)
    """Other device or inode but the same content: after a remount."""
    sidecars: list[tuple[UUID, ListedSidecar | None]] = field(default_factory=list)
    """Known files whose sidecar has come, changed or gone (None)."""
    digests: dict[str, bytes | None] = field(default_factory=dict)
    """By path of the folder."""
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    """Output, set by `apply_changes`: paths that belong to another library or to managed files, each with the name of
    its owner. They are removed from the other lists."""
    to_process: list[UUID] = field(default_factory=list)
    """Output, set by `apply_changes`: the assets that got a new task."""
