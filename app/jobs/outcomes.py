"""How an attempt at a task ended, and whether and when the next one begins. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.catalog.errors import CatalogError
from app.catalog.records import Task
from app.media.errors import DiskFull, MediaError
from app.storage.errors import StorageError, StorageFull

MAX_ATTEMPTS = 3
PAUSES = (timedelta(seconds=30), timedelta(minutes=5))
"""After the first and the second attempt that failed."""
LEAST_DELAY, MOST_DELAY = timedelta(seconds=15), timedelta(minutes=15)
"""Of what cannot be done for now: a quarter of the time that it has waited already, within these."""


@dataclass(frozen=True, slots=True)
class Done:
    """All that was wanted is there."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The attempt does not count: a stop broke it off (no `reason`), or a part of the house is away, which is not the file's fault."""

    retry_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """`reason` is one line for people. Without `retry_at` it was the last attempt."""

    reason: str
    retry_at: datetime | None


Outcome = Done | GivenBack | Failed


def outcome_of(task: Task, error: Exception, now: datetime) -> Outcome:
    """What an error of an attempt, of which `task.attempts` have begun, amounts to."""
    away = isinstance(error, (StorageError, CatalogError)) and error.retryable
    if away or isinstance(error, (StorageFull, DiskFull)):
        waited = (now - task.requested_at) / 4
        return GivenBack(now + min(max(waited, LEAST_DELAY), MOST_DELAY), str(error))
    if isinstance(error, MediaError):
        return Failed(error.reason, _next_attempt(task, now) if error.retryable else None)
    if isinstance(error, (StorageError, CatalogError)):
        return Failed(str(error), _next_attempt(task, now))
    return Failed(f"internal error: {type(error).__name__}", _next_attempt(task, now))


def _next_attempt(task: Task, now: datetime) -> datetime | None:
    return now + PAUSES[task.attempts - 1] if task.attempts < MAX_ATTEMPTS else None
