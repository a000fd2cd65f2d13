"""The rows of the ledger of moves, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.catalog.schema.records import File, FileKind, FileState
from app.config import StorageEngine


class MoveState(StrEnum):
    """How far a file's move has come; `app.catalog.moves.move_ledger` says which row accounts for which object in each."""

    PLANNED = "planned"
    COPYING = "copying"
    COPIED = "copied"
    VERIFIED = "verified"
    SWITCHED = "switched"
    REMOVED = "removed"
    DROPPED = "dropped"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True)
class StorageMigration:
    """A move of managed files to the engine `target`. One at a time has no `finished_at`."""

    id: UUID
    target: StorageEngine
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class MoveItem:
    """One file's move. `twin_id` is the row that accounts for the file's other object. `size` in bytes, when it was planned.
    `problem`: why it has not come further."""

    migration_id: UUID
    file_id: UUID
    twin_id: UUID
    owner_id: UUID
    kind: FileKind
    source_path: str
    target_path: str
    size: int
    state: MoveState
    problem: str | None
    switched_at: datetime | None


@dataclass(frozen=True, slots=True)
class FileMove:
    """An item with its file as it is now; None once that row is gone."""

    item: MoveItem
    file: File | None

    @property
    def is_file_live(self) -> bool:
        """False once nothing refers to the file any more."""
        return self.file is not None and self.file.state is FileState.LIVE


@dataclass(frozen=True, slots=True)
class MoveCandidate:
    """A live file that may be moved, and how far it has come already (None: not planned)."""

    file: File
    state: MoveState | None


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """What became of copying one file: how far it is now, and the problem that keeps it there."""

    file_id: UUID
    state: MoveState
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class MoveFilters:
    """Which files a command is about; None means all."""

    owner_id: UUID | None = None
    kinds: tuple[FileKind, ...] | None = None


@dataclass(frozen=True, slots=True)
class MoveCounts:
    """Numbers of files in one state, their bytes, and how many of them have a problem."""

    state: MoveState
    files: int
    bytes: int
    problems: int
