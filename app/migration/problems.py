"""The problems that keep a file from being moved, with texts that an operator can act on. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectNotFound,
    StorageError,
    StorageFull,
    StoragePermission,
    StorageUnavailable,
)


class ProblemKind(StrEnum):
    """The first word or words of a problem in a report."""

    MISSING = "missing"
    SIZE = "size"
    DAMAGED = "damaged"
    FORBIDDEN = "forbidden"
    OCCUPIED = "occupied"
    BUSY = "busy"
    NAME = "name"
    UNRECORDED = "unrecorded"
    COPY_MISSING = "copy missing"
    COPY_DAMAGED = "copy damaged"
    NO_CHECKSUM = "no checksum"
    UNAVAILABLE = "unavailable"
    FULL = "full"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class MoveProblem:
    """`detail` is a sentence that does not name the path."""

    kind: ProblemKind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"

    @property
    def retryable(self) -> bool:
        """True where the store was unavailable or full: the file itself has no problem."""
        return self.kind in (ProblemKind.UNAVAILABLE, ProblemKind.FULL)


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A problem as text, with the path of its file."""

    path: str
    problem: str


SOURCE_DAMAGED = MoveProblem(
    ProblemKind.DAMAGED, "its own bytes are not those that the catalogue records; it stays where it is"
)
TARGET_OCCUPIED = MoveProblem(ProblemKind.OCCUPIED, "the target holds other bytes, which are left alone")
TARGET_BUSY = MoveProblem(
    ProblemKind.BUSY, "an object at the target is still to be removed; try again in a few minutes"
)
CHECKSUM_UNRECORDED = MoveProblem(ProblemKind.UNRECORDED, "the catalogue has no checksum to compare with")
COPY_MISSING = MoveProblem(ProblemKind.COPY_MISSING, "there is nothing at the target")
COPY_DAMAGED = MoveProblem(ProblemKind.COPY_DAMAGED, "the target's bytes are not those that the catalogue records")
STORE_WITHOUT_CHECKSUM = MoveProblem(
    ProblemKind.NO_CHECKSUM, "the store gives no checksum of the whole object: use --verify=readback"
)
PLANNED_ELSEWHERE = MoveProblem(ProblemKind.CHANGED, "it was planned for other places than the settings name now")
FOLDER_UNLISTABLE = MoveProblem(ProblemKind.FORBIDDEN, "its folder may not be listed")
ROWS_CHANGED = MoveProblem(
    ProblemKind.CHANGED, "the catalogue's rows have changed since it was planned; it is left alone"
)


def describe_wrong_size(found: int, recorded: int) -> MoveProblem:
    return MoveProblem(ProblemKind.SIZE, f"{found} bytes are stored, {recorded} in the catalogue")


def describe_source_error(error: StorageError) -> MoveProblem:
    """The problem of a file whose source could not be read."""
    if isinstance(error, ObjectNotFound):
        return MoveProblem(ProblemKind.MISSING, "there is no such object")
    if isinstance(error, ObjectChanged):
        return MoveProblem(ProblemKind.DAMAGED, "it changed while it was read")
    return _describe_error(error, "read")


def describe_target_error(error: StorageError) -> MoveProblem:
    """The problem of a file whose target could not be written or checked."""
    return _describe_error(error, "write")


def _describe_error(error: StorageError, operation: str) -> MoveProblem:
    if isinstance(error, StoragePermission):
        return MoveProblem(ProblemKind.FORBIDDEN, f"no permission to {operation} in {error.backend}: {error.detail}")
    if isinstance(error, StorageFull):
        return MoveProblem(ProblemKind.FULL, f"{error.backend}: {error.detail}")
    if isinstance(error, InvalidKey):
        return MoveProblem(ProblemKind.NAME, f"{error.backend} does not take this name: {error.detail}")
    if isinstance(error, StorageUnavailable):
        return MoveProblem(ProblemKind.UNAVAILABLE, f"{error.backend}: {error.detail}")
    return MoveProblem(ProblemKind.UNAVAILABLE, f"{type(error).__name__}, {error.backend}: {error.detail}")
