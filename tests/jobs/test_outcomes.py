"""What an error of an attempt amounts to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.catalog.errors import CatalogUnavailable, FileGone
from app.catalog.records import Task, TaskKind, TaskState
from app.jobs.outcomes import LEAST_DELAY, MOST_DELAY, PAUSES, Failed, GivenBack, outcome_of
from app.media.errors import Crashed, DecodeFailed, DiskFull, MissingTool, TimedOut, TooLarge, Unreadable
from app.storage.errors import ObjectNotFound, StagingFull, StorageFull, StoragePermission, StorageUnavailable

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def attempt(number: int, waited: timedelta = timedelta(0)) -> Task:
    begun = NOW - waited
    return Task(
        *(uuid4(), uuid4(), TaskKind.IMAGE, TaskState.RUNNING, 0, number, 0, None, uuid4()),
        *(NOW, begun, begun, begun),
    )


@pytest.mark.parametrize("error", [DecodeFailed("broken"), TooLarge("a bomb"), MissingTool("no ffmpeg")], ids=str)
def test_what_will_be_the_same_again_fails_at_once(error: Exception) -> None:
    assert outcome_of(attempt(1), error, NOW) == Failed(str(error), None)


@pytest.mark.parametrize(
    "error",
    [
        TimedOut("too long"),
        Crashed("signal 11"),
        Unreadable("Input/output error"),
        ObjectNotFound("k", "s3"),
        StoragePermission("k", "s3"),
        FileGone(uuid4()),
        ZeroDivisionError("a secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_failures_are_tried_three_times_with_growing_pauses(error: Exception) -> None:
    outcomes = [outcome_of(attempt(number), error, NOW) for number in (1, 2, 3)]

    assert [outcome.retry_at for outcome in outcomes if isinstance(outcome, Failed)] == [
        NOW + PAUSES[0],
        NOW + PAUSES[1],
        None,
    ]
    assert PAUSES[0] < PAUSES[1]
    assert all("secret" not in str(outcome) for outcome in outcomes)


@pytest.mark.parametrize(
    "error",
    [
        StorageUnavailable("k", "s3"),
        StagingFull("k", "staging"),
        StorageFull("k", "local"),
        DiskFull("no room"),
        CatalogUnavailable("restarts"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("waited", "delay"),
    [
        (timedelta(0), LEAST_DELAY),
        (timedelta(minutes=10), timedelta(minutes=2.5)),
        (timedelta(days=3), MOST_DELAY),
    ],
    ids=str,
)
def test_what_is_not_the_files_fault_costs_no_attempt(error: Exception, waited: timedelta, delay: timedelta) -> None:
    assert outcome_of(attempt(3, waited), error, NOW) == GivenBack(NOW + delay, str(error))
