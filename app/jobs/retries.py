"""Decides from an attempt's error whether the task has failed, and when it is tried again. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.catalog.errors import CatalogError
from app.catalog.schema.records import Task
from app.media.errors import MediaDiskFull, MediaError
from app.storage.errors import StorageError, StorageFull

MAX_ATTEMPTS = 3
RETRY_DELAYS = (timedelta(seconds=30), timedelta(minutes=5))
"""Delays after the first and the second failed attempt."""
MIN_RELEASE_DELAY, MAX_RELEASE_DELAY = timedelta(seconds=15), timedelta(minutes=15)
"""Bounds of the delay after an attempt that could not be made: a quarter of the time since the task was requested,
within these bounds."""


@dataclass(frozen=True, slots=True)
class TaskDone:
    """The attempt succeeded."""


@dataclass(frozen=True, slots=True)
class TaskReleased:
    """The attempt does not count: a stop interrupted it (`reason` None), or storage or catalogue are unavailable, which
    is not the file's fault."""

    retry_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """The attempt failed. `reason` is one line for people. `retry_at` None: there is no further attempt."""

    reason: str
    retry_at: datetime | None


TaskOutcome = TaskDone | TaskReleased | TaskFailed


def decide_outcome(task: Task, error: Exception, now: datetime) -> TaskOutcome:
    """The outcome of an attempt that raised `error`; `task.attempts` includes that attempt."""
    is_unavailable = isinstance(error, (StorageError, CatalogError)) and error.retryable
    if is_unavailable or isinstance(error, (StorageFull, MediaDiskFull)):
        waited = (now - task.requested_at) / 4
        return TaskReleased(now + min(max(waited, MIN_RELEASE_DELAY), MAX_RELEASE_DELAY), str(error))
    if isinstance(error, MediaError):
        return TaskFailed(error.reason, _next_attempt_at(task, now) if error.retryable else None)
    if isinstance(error, (StorageError, CatalogError)):
        return TaskFailed(str(error), _next_attempt_at(task, now))
    return TaskFailed(f"internal error: {type(error).__name__}", _next_attempt_at(task, now))


def _next_attempt_at(task: Task, now: datetime) -> datetime | None:
    return now + RETRY_DELAYS[task.attempts - 1] if task.attempts < MAX_ATTEMPTS else None
