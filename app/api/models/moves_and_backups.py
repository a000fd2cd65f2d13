"""Models of the latest move between disk and S3, and of the backups of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.models.base_model import ApiModel, Timestamp
from app.catalog.schema.move_records import MoveCounts, MoveItemWithFile, MoveState, StorageMigration
from app.config import StorageEngine
from app.migration.backups.backup_store import BackupInfo


class BackupResponse(ApiModel):
    """`size`: bytes, compressed."""

    name: str
    path: str
    size: int
    created_at: Timestamp

    @classmethod
    def from_backup(cls, backup: BackupInfo) -> Self:
        return cls(name=backup.name, path=backup.path, size=backup.size, created_at=backup.created_at)


class BackupList(ApiModel):
    """`everyHours`: how often a backup is made; 0: never by itself. `keep`: how many are kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "backups": [
                        {
                            "name": "mediavault-20261125-020000.000.jsonl.gz",
                            "path": "/photos/backups/mediavault-20261125-020000.000.jsonl.gz",
                            "size": 48213,
                            "createdAt": "2026-11-25T02:00:00.000Z",
                        }
                    ],
                    "everyHours": 24.0,
                    "keep": 14,
                }
            ]
        }
    )

    backups: list[BackupResponse]
    every_hours: float
    keep: int


class MoveCountsResponse(ApiModel):
    """Files in one state of `migrate status`, and their bytes. `problems`: how many of them do not advance."""

    state: MoveState
    files: int
    bytes: int
    problems: int


class MoveProblem(ApiModel):
    """`path`: where the file is now; null if it was deleted."""

    path: str | None
    state: MoveState
    problem: str

    @classmethod
    def from_item(cls, move: MoveItemWithFile) -> Self:
        return cls(path=move.file.path if move.file else None, state=move.item.state, problem=move.item.problem or "")


class MoveResponse(ApiModel):
    """A move of the media to `target`. `finishedAt` is null while files are still to be moved, switched or removed. `files` and `bytes` of all
    states together; `unsweptFiles` of sources that are removed and not yet deleted."""

    id: UUID
    target: StorageEngine
    started_at: Timestamp
    finished_at: Timestamp | None
    files: int
    bytes: int
    states: list[MoveCountsResponse] = Field(description="States without files are left out.")
    problems: list[MoveProblem] = Field(description="At most 100.")
    unswept_files: int
    unswept_bytes: int

    @classmethod
    def from_migration(
        cls,
        migration: StorageMigration,
        counts: Sequence[MoveCounts],
        problems: Iterable[MoveItemWithFile],
        unswept: tuple[int, int],
    ) -> Self:
        return cls(
            id=migration.id,
            target=migration.target,
            started_at=migration.created_at,
            finished_at=migration.finished_at,
            files=sum(each.files for each in counts),
            bytes=sum(each.bytes for each in counts),
            states=[
                MoveCountsResponse(state=each.state, files=each.files, bytes=each.bytes, problems=each.problems)
                for each in counts
            ],
            problems=[MoveProblem.from_item(each) for each in problems],
            unswept_files=unswept[0],
            unswept_bytes=unswept[1],
        )
