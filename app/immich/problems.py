"""What is wrong in an installation, named and counted, with a few examples of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

MAX_EXAMPLES = 10
"""Examples that are kept of each kind: memory does not depend on their number."""


class ProblemKind(StrEnum):
    """Each value is what the report calls it."""

    MISSING_FILE = "missing file"
    SIZE_DIFFERS = "size differs"
    UNREADABLE_FILE = "unreadable file"
    OUTSIDE_ROOTS = "path outside the media roots"
    THROUGH_LINK = "path through a link"
    INVALID_PATH = "invalid path"
    SHARED_PATH = "path of several rows"
    UNKNOWN_FILE = "file without a row"
    CHECKSUM_CONFLICT = "checksum conflict"
    INVALID_CHECKSUM = "invalid checksum"
    PATH_CHECKSUM = "checksum of the path only"
    INTERRUPTED_MOVE = "interrupted move"
    OFFLINE = "offline asset"
    HALF_REMOVED = "half removed asset"
    LOST_VIDEO = "live photo without its video"
    UNUSABLE_DATE = "unusable date"
    UNKNOWN_VALUE = "unknown value"
    UNKNOWN_OWNER = "owner without a row"
    DELETED_USER = "deleted user"
    EMAIL_CONFLICT = "email address of another user"
    INVALID_EMAIL = "invalid email address"
    INVALID_KEY = "unusable API key"
    INVALID_PASSWORD = "unusable password hash"  # noqa: S105 - no password
    QUOTA_USAGE = "wrong quota usage"
    ABSENT_LIBRARY = "library whose folders are absent"
    REMOVED_LIBRARY = "asset of a library that is being removed"
    MISSING_COLUMN = "missing column"
    UNKNOWN_COLUMN = "unknown column"
    EDITED = "edit that stays with Immich"


@dataclass(slots=True)
class ProblemLog:
    """Counts, and the first `MAX_EXAMPLES` examples, by kind."""

    counts: Counter[ProblemKind] = field(default_factory=Counter[ProblemKind])
    examples: dict[ProblemKind, list[str]] = field(default_factory=dict[ProblemKind, list[str]])

    def add(self, kind: ProblemKind, example: object, count: int = 1) -> None:
        self.counts[kind] += count
        kept = self.examples.setdefault(kind, [])
        if len(kept) < MAX_EXAMPLES:
            kept.append(str(example))

    def to_json(self) -> dict[str, dict[str, object]]:
        return {
            kind.value: {"count": self.counts[kind], "examples": self.examples[kind]} for kind in sorted(self.counts)
        }
