"""Models of external libraries: settings, state, scans, and validation of import paths."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.models.base_model import ApiModel, Name, RequestModel, StorableText, Timestamp
from app.catalog.schema.library_records import Library, LibraryChanges, LibraryState, LibraryUsage, ScanReport
from app.libraries.import_paths.validation import MAX_IMPORT_PATHS, MAX_PATH_CHARACTERS, CheckedPath
from app.libraries.patterns.exclusions import DEFAULT_EXCLUSIONS

Paths = Annotated[
    list[Annotated[StorableText, Field(max_length=MAX_PATH_CHARACTERS)]], Field(max_length=MAX_IMPORT_PATHS)
]
Patterns = Annotated[
    list[Annotated[StorableText, Field(max_length=MAX_PATH_CHARACTERS)]], Field(max_length=MAX_IMPORT_PATHS)
]

_EXAMPLE = {"name": "NAS", "importPaths": ["/mnt/nas/photos"], "exclusionPatterns": list(DEFAULT_EXCLUSIONS)}


class LibraryCreate(RequestModel):
    """Without `exclusionPatterns` Immich's defaults."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ownerId": "b1c3c2a0-9f0e-4f7e-8a3f-5a8f0f0a6a11", **_EXAMPLE}]}
    )

    owner_id: UUID
    name: Name = "New External Library"
    import_paths: Paths = Field(default_factory=list)
    exclusion_patterns: Patterns = Field(default_factory=lambda: list(DEFAULT_EXCLUSIONS))


class LibraryUpdate(RequestModel):
    """Only what is given changes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Name | None = None
    import_paths: Paths | None = None
    exclusion_patterns: Patterns | None = None

    def to_changes(self) -> LibraryChanges:
        changes = LibraryChanges()
        if self.name is not None:
            changes["name"] = self.name
        if self.import_paths is not None:
            changes["import_paths"] = tuple(self.import_paths)
        if self.exclusion_patterns is not None:
            changes["exclusion_patterns"] = tuple(self.exclusion_patterns)
        return changes


_SCAN_EXAMPLE = {
    "startedAt": "2026-05-03T09:00:00.000Z",
    "seconds": 0.012,
    "complete": False,
    "found": 0,
    "new": 0,
    "changed": 0,
    "renamed": 0,
    "back": 0,
    "trashed": 0,
    "unreadableCount": 1,
    "unreadable": ["/mnt/nas/photos/private: Permission denied"],
    "refused": "/mnt/nas/photos: No such file or directory",
}


class ScanResponse(ApiModel):
    """What the last scan saw and did, in numbers of files. `unreadable` names the first of `unreadableCount`; `refused` says why missing
    files did not go to the trash, where that is so."""

    started_at: Timestamp
    seconds: float
    complete: bool
    found: int
    new: int
    changed: int
    renamed: int
    back: int
    trashed: int
    unreadable_count: int
    unreadable: list[str]
    refused: str | None

    @classmethod
    def from_report(cls, report: ScanReport) -> Self:
        values = {name: getattr(report, name) for name in cls.model_fields}
        return cls(**{**values, "unreadable": list(report.unreadable)})


class LibraryResponse(ApiModel):
    """`assetCount` without the trash; `refreshedAt`: when the last complete scan ended. Own fields: `state` with `stateSince` and
    `stateError`, `watch` (how it is watched; null where it is not), `lastScan`, `scanning` (whether a scan that was requested of
    this process runs or waits)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0d1f9d7c-53b0-4a1f-9a55-0a6f0c1a2b3c",
                    "ownerId": "b1c3c2a0-9f0e-4f7e-8a3f-5a8f0f0a6a11",
                    **_EXAMPLE,
                    "assetCount": 12000,
                    "createdAt": "2026-05-01T10:00:00.000Z",
                    "updatedAt": "2026-05-01T10:00:00.000Z",
                    "refreshedAt": "2026-05-02T00:00:00.000Z",
                    "state": "unmounted",
                    "stateSince": "2026-05-03T09:00:00.000Z",
                    "stateError": "/mnt/nas/photos: No such file or directory",
                    "watch": "events of the system",
                    "lastScan": _SCAN_EXAMPLE,
                    "scanning": False,
                }
            ]
        }
    )

    id: UUID
    owner_id: UUID
    name: str
    import_paths: list[str]
    exclusion_patterns: list[str]
    asset_count: int
    created_at: Timestamp
    updated_at: Timestamp
    refreshed_at: Timestamp | None
    state: LibraryState
    state_since: Timestamp
    state_error: str | None
    watch: str | None
    last_scan: ScanResponse | None
    scanning: bool

    @classmethod
    def from_library(cls, library: Library, asset_count: int, *, is_scanning: bool = False) -> Self:
        return cls(
            id=library.id,
            owner_id=library.owner_id,
            name=library.name,
            import_paths=list(library.import_paths),
            exclusion_patterns=list(library.exclusion_patterns),
            asset_count=asset_count,
            created_at=library.created_at,
            updated_at=library.updated_at,
            refreshed_at=library.scanned_at,
            state=library.state,
            state_since=library.state_since,
            state_error=library.state_error,
            watch=library.watch,
            last_scan=None if library.last_scan is None else ScanResponse.from_report(library.last_scan),
            scanning=is_scanning,
        )


class LibraryValidate(RequestModel):
    """What is to be checked; what is left out is not."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"importPaths": ["/mnt/nas/photos"]}]})

    import_paths: Paths = Field(default_factory=list)
    exclusion_patterns: Patterns = Field(default_factory=list)


class ImportPathCheck(ApiModel):
    import_path: str
    is_valid: bool
    message: str | None = None

    @classmethod
    def from_check(cls, import_path: str, checked: CheckedPath) -> Self:
        return cls(import_path=import_path, is_valid=checked.rejection_reason is None, message=checked.rejection_reason)


class LibraryValidateResponse(ApiModel):
    """In the order asked."""

    import_paths: list[ImportPathCheck]


class LibraryScan(RequestModel):
    """`acceptMissing`: what is missing was deleted, however much it looks like a disk that is away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"acceptMissing": False}]})

    accept_missing: bool = False


class LibraryStatistics(ApiModel):
    """Without the trash; `usage` in bytes."""

    photos: int
    videos: int
    total: int
    usage: int

    @classmethod
    def from_usage(cls, usage: LibraryUsage) -> Self:
        return cls(photos=usage.photos, videos=usage.videos, total=usage.total, usage=usage.usage)
