"""What the consistency check reports, and whom it tells: findings, counts, progress and repairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from app.catalog.schema.records import File


class FindingKind(StrEnum):
    """`missing`: a live file has no object, or an unfinished upload has lost bytes that were acknowledged. `size`, `checksum`: its
    object differs from the row. `unreadable`: it could not be read. `unplaced`: its path lies in no location of the settings. `orphan`:
    an object without a row. `count`: a kept count is not that of the rows."""

    MISSING = "missing"
    SIZE = "size"
    CHECKSUM = "checksum"
    UNREADABLE = "unreadable"
    UNPLACED = "unplaced"
    ORPHAN = "orphan"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class ConsistencyFinding:
    """`file` is None for an orphan, a folder and a count, whose `path` is the name of the table. `key` is an orphan's key. Sizes in
    bytes. `repair` names the repair that was made, if any. `is_copy`: `path` is that of the copy of the foreign file `file`.
    `is_transient`: a second check may give another result. `upload_id`: of the unfinished upload that has lost bytes."""

    problem: FindingKind
    path: str
    file: File | None = None
    key: str | None = None
    found_size: int | None = None
    detail: str = ""
    repair: str | None = None
    is_transient: bool = False
    upload_id: UUID | None = None
    is_copy: bool = False


@dataclass(slots=True)
class ConsistencySummary:
    """Counts: listed `objects`, checked live `files`, `bytes_read`; `known` objects that need no row, by kind; files that are not
    checked: `external` ones, and `unsettled` ones (state writing or doomed). `foreign`: live foreign files; those of a folder that is
    not mounted are not checked, and the folder is a finding. `copies`: those of foreign files, which are checked in any case, former ones
    included. `uploads`: unfinished ones that have bytes in the storage."""

    objects: int = 0
    files: int = 0
    bytes_read: int = 0
    known: Counter[str] = field(default_factory=Counter[str])
    external: int = 0
    foreign: int = 0
    copies: int = 0
    unsettled: int = 0
    uploads: int = 0
    problems: Counter[FindingKind] = field(default_factory=Counter[FindingKind])
    repaired: Counter[str] = field(default_factory=Counter[str])

    @property
    def unrepaired(self) -> int:
        return self.problems.total() - self.repaired.total()


class ConsistencyProgress(Protocol):
    """Receives the progress of a check."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage with `total` objects or files begins; None where the number is unknown."""
        ...

    def advance(self, count: int, size: int = 0) -> None:
        """`count` more objects or files are done; `size` more bytes were read."""
        ...


class FindingRepairer(Protocol):
    """Repairs findings; implemented by `app.migration.consistency.finding_repair`."""

    async def repair(self, finding: ConsistencyFinding) -> str | None:
        """Returns one word for the repair; None where none was made. Raises `StorageError` where the repair fails."""
        ...
