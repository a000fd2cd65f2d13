"""What can keep a file from being moved, in words that an operator can act on. Pure: no input or output."""

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
    """The word that a report begins a problem with."""

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
class Problem:
    """`detail` is a sentence without the path."""

    kind: ProblemKind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"

    @property
    def retryable(self) -> bool:
        """True for what is not the file's fault: the store was away."""
        return self.kind in (ProblemKind.UNAVAILABLE, ProblemKind.FULL)


@dataclass(frozen=True, slots=True)
class Named:
    """A problem and the path of the file that has it."""

    path: str
    problem: str


DAMAGED = Problem(ProblemKind.DAMAGED, "its own bytes are not those that the catalogue records; it stays where it is")
OCCUPIED = Problem(ProblemKind.OCCUPIED, "the target holds other bytes, which are left alone")
BUSY = Problem(ProblemKind.BUSY, "an object at the target is still to be removed; try again in a few minutes")
UNRECORDED = Problem(ProblemKind.UNRECORDED, "the catalogue has no checksum to compare with")
COPY_MISSING = Problem(ProblemKind.COPY_MISSING, "there is nothing at the target")
COPY_DAMAGED = Problem(ProblemKind.COPY_DAMAGED, "the target's bytes are not those that the catalogue records")
NO_CHECKSUM = Problem(ProblemKind.NO_CHECKSUM, "the store gives no checksum of the whole object: use --verify=readback")
ELSEWHERE = Problem(ProblemKind.CHANGED, "it was planned for other places than the settings name now")
UNLISTED = Problem(ProblemKind.FORBIDDEN, "its folder may not be listed")
CHANGED = Problem(ProblemKind.CHANGED, "the catalogue's rows have changed since it was planned; it is left alone")


def wrong_size(found: int, recorded: int) -> Problem:
    return Problem(ProblemKind.SIZE, f"{found} bytes are stored, {recorded} in the catalogue")


def source_problem(error: StorageError) -> Problem:
    """What it means for the move that the source could not be read."""
    if isinstance(error, ObjectNotFound):
        return Problem(ProblemKind.MISSING, "there is no such object")
    if isinstance(error, ObjectChanged):
        return Problem(ProblemKind.DAMAGED, "it changed while it was read")
    return _problem(error, "read")


def target_problem(error: StorageError) -> Problem:
    """What it means for the move that the target could not be written or checked."""
    return _problem(error, "write")


def _problem(error: StorageError, what: str) -> Problem:
    if isinstance(error, StoragePermission):
        return Problem(ProblemKind.FORBIDDEN, f"no permission to {what} in {error.backend}: {error.detail}")
    if isinstance(error, StorageFull):
        return Problem(ProblemKind.FULL, f"{error.backend}: {error.detail}")
    if isinstance(error, InvalidKey):
        return Problem(ProblemKind.NAME, f"{error.backend} does not take this name: {error.detail}")
    if isinstance(error, StorageUnavailable):
        return Problem(ProblemKind.UNAVAILABLE, f"{error.backend}: {error.detail}")
    return Problem(ProblemKind.UNAVAILABLE, f"{type(error).__name__}, {error.backend}: {error.detail}")
