"""How an attempt at a task ended, and whether and when the next one begins. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.catalog.errors import CatalogError
from app.catalog.schema.records import Task
from app.media.errors import MediaDiskFull, MediaError
from app.storage.errors import StorageError, StorageFull

MAX_ATTEMPTS = 3
RETRY_DELAYS = (timedelta(seconds=30), timedelta(minutes=5))
"""After the first and the second attempt that failed."""
MIN_RELEASE_DELAY, MAX_RELEASE_DELAY = timedelta(seconds=15), timedelta(minutes=15)
"""Of what cannot be done for now: a quarter of the time that it has waited already, within these."""


@dataclass(frozen=True, slots=True)
class TaskDone:
    """All that was wanted is there."""


@dataclass(frozen=True, slots=True)
class TaskReleased:
    """The attempt does not count: a stop broke it off (no `reason`), or a part of the house is away, which is not the file's fault."""

    retry_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """`reason` is one line for people. Without `retry_at` it was the last attempt."""

    reason: str
    retry_at: datetime | None


TaskOutcome = TaskDone | TaskReleased | TaskFailed


def decide_outcome(task: Task, error: Exception, now: datetime) -> TaskOutcome:
    """What an error of an attempt, of which `task.attempts` have begun, amounts to."""
    away = isinstance(error, (StorageError, CatalogError)) and error.retryable
    if away or isinstance(error, (StorageFull, MediaDiskFull)):
        waited = (now - task.requested_at) / 4
        return TaskReleased(now + min(max(waited, MIN_RELEASE_DELAY), MAX_RELEASE_DELAY), str(error))
    if isinstance(error, MediaError):
        return TaskFailed(error.reason, _next_attempt_at(task, now) if error.retryable else None)
    if isinstance(error, (StorageError, CatalogError)):
        return TaskFailed(str(error), _next_attempt_at(task, now))
    return TaskFailed(f"internal error: {type(error).__name__}", _next_attempt_at(task, now))


def _next_attempt_at(task: Task, now: datetime) -> datetime | None:
    return now + RETRY_DELAYS[task.attempts - 1] if task.attempts < MAX_ATTEMPTS else None
