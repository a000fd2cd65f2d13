"""What is known of each folder that the service stands on: the media folders, and the external libraries.

Whoever watches a place tells its state by `MountState`; nothing here looks at a disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class MountKind(StrEnum):
    MEDIA = "media"
    LIBRARY = "library"


class MountCondition(StrEnum):
    OK = "ok"
    UNMOUNTED = "unmounted"
    """What is known to belong there is missing: no disk, an empty mount point, an emptied bucket."""
    NOT_OURS = "not_ours"
    """Something is there, and it belongs to somebody else."""
    UNAVAILABLE = "unavailable"
    """It can not be told: no answer in time, no permission, an error of the device."""


@dataclass(frozen=True, slots=True)
class MountState:
    """One folder (or bucket). `name` is what people call it: `upload`, or a library's name.

    `since` is when the state began as far as it was seen, aware UTC; `error` is one line for the operator, None when all is
    well. `free_bytes` and `total_bytes` are those of its file system; None where there is none, as on S3, or it can not be asked.
    """

    name: str
    kind: MountKind
    state: MountCondition
    since: datetime
    error: str | None
    free_bytes: int | None
    total_bytes: int | None


MountStates = Callable[[], Awaitable[list[MountState]]]
"""Tells the states of one watcher's places, in the order to be shown. Never raises for a place that is not well."""
