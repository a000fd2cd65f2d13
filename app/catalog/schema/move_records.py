"""Immutable records of moves between disk and S3."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.catalog.schema.records import File, FileKind, FileState
from app.config import StorageEngine


class MoveState(StrEnum):
    """The state of a file's move; `app.catalog.moves.move_ledger` lists which row accounts for which object in each
    state."""

    PLANNED = "planned"
    COPYING = "copying"
    COPIED = "copied"
    VERIFIED = "verified"
    KEPT = "kept"
    """Of foreign files, whose sources stay."""
    SWITCHED = "switched"
    REMOVED = "removed"
    DROPPED = "dropped"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True)
class StorageMigration:
    """A move of managed files to the engine `target`. At most one has no `finished_at`."""

    id: UUID
    target: StorageEngine
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class MoveItem:
    """The move of one file. `twin_id` is the `file` row that accounts for the file's second object. `size` in bytes, at
    planning. `problem`: why the move has not advanced."""

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
class MoveItemWithFile:
    """An item with the current row of its file; None when that row is gone."""

    item: MoveItem
    file: File | None

    @property
    def is_foreign(self) -> bool:
        """Whether the source belongs to another program: the copy is kept beside it."""
        return self.file is not None and self.file.is_foreign

    @property
    def is_file_live(self) -> bool:
        """False when nothing refers to the file any more."""
        return self.file is not None and self.file.state is FileState.LIVE


@dataclass(frozen=True, slots=True)
class MoveCandidate:
    """A live file that may be moved, and the state of its move (None: not planned)."""

    file: File
    state: MoveState | None


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """The state of a file's move after an attempt to copy it, and the problem that prevents the next state."""

    file_id: UUID
    state: MoveState
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class MoveFilters:
    """The files that a command works on; None means all."""

    owner_id: UUID | None = None
    kinds: tuple[FileKind, ...] | None = None


@dataclass(frozen=True, slots=True)
class MoveCounts:
    """Counts of files in one state, their bytes, and how many of them have a problem."""

    state: MoveState
    files: int
    bytes: int
    problems: int
