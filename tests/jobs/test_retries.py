"""The outcome of an attempt that raised an error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.catalog.errors import CatalogDamaged, CatalogUnavailable, WriteLeaseLost
from app.catalog.schema.records import Task, TaskKind, TaskState
from app.jobs.retries import (
    MAX_RELEASE_DELAY,
    MIN_RELEASE_DELAY,
    RETRY_DELAYS,
    TaskFailed,
    TaskReleased,
    decide_outcome,
)
from app.media.errors import (
    DecodeFailed,
    LimitExceeded,
    MediaDiskFull,
    MissingTool,
    ProcessingTimedOut,
    SourceUnreadable,
    WorkerCrashed,
)
from app.storage.errors import ObjectNotFound, StagingFull, StorageFull, StoragePermission, StorageUnavailable

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def attempt(number: int, waited: timedelta = timedelta(0)) -> Task:
    begun = NOW - waited
    return Task(
        *(uuid4(), uuid4(), TaskKind.IMAGE, TaskState.RUNNING, 0, number, 0, None, uuid4()),
        *(NOW, begun, begun, begun),
    )


@pytest.mark.parametrize("error", [DecodeFailed("broken"), LimitExceeded("a bomb"), MissingTool("no ffmpeg")], ids=str)
def test_what_will_be_the_same_again_fails_at_once(error: Exception) -> None:
    assert decide_outcome(attempt(1), error, NOW) == TaskFailed(str(error), None)


@pytest.mark.parametrize(
    "error",
    [
        ProcessingTimedOut("too long"),
        WorkerCrashed("signal 11"),
        SourceUnreadable("Input/output error"),
        ObjectNotFound("k", "s3"),
        StoragePermission("k", "s3"),
        WriteLeaseLost(uuid4()),
        ZeroDivisionError("a secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_failures_are_tried_three_times_with_growing_pauses(error: Exception) -> None:
    outcomes = [decide_outcome(attempt(number), error, NOW) for number in (1, 2, 3)]

    assert [outcome.retry_at for outcome in outcomes if isinstance(outcome, TaskFailed)] == [
        NOW + RETRY_DELAYS[0],
        NOW + RETRY_DELAYS[1],
        None,
    ]
    assert RETRY_DELAYS[0] < RETRY_DELAYS[1]
    assert all("secret" not in str(outcome) for outcome in outcomes)


@pytest.mark.parametrize(
    "error",
    [
        StorageUnavailable("k", "s3"),
        StagingFull("k", "staging"),
        StorageFull("k", "local"),
        MediaDiskFull("no room"),
        CatalogUnavailable("restarts"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("waited", "delay"),
    [
        (timedelta(0), MIN_RELEASE_DELAY),
        (timedelta(minutes=10), timedelta(minutes=2.5)),
        (timedelta(days=3), MAX_RELEASE_DELAY),
    ],
    ids=str,
)
def test_what_is_not_the_files_fault_costs_no_attempt(error: Exception, waited: timedelta, delay: timedelta) -> None:
    assert decide_outcome(attempt(3, waited), error, NOW) == TaskReleased(NOW + delay, str(error))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DecodeFailed("broken"), "broken"),
        (StoragePermission("k", "s3"), str(StoragePermission("k", "s3"))),
        (CatalogDamaged("a page is torn"), "a page is torn"),
        (ZeroDivisionError("a secret"), "internal error: ZeroDivisionError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failed_task_says_why(error: Exception, reason: str) -> None:
    outcome = decide_outcome(attempt(1), error, NOW)

    assert isinstance(outcome, TaskFailed)
    assert outcome.reason == reason
