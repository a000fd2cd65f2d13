"""The SQLite runner: runs due tasks at once, in one process at a time, and takes back tasks of a dead process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database.locations import SqliteLocation
from app.catalog.errors import CatalogUnavailable
from app.catalog.schema.records import AssetType, TaskKind, TaskState
from app.jobs import sqlite_runner as module
from app.jobs.sqlite_runner import SqliteTaskRunner
from app.jobs.task_executor import TaskExecutor
from app.media.errors import WorkerCrashed
from tests.jobs.controlled_tasks import (
    SLOTS,
    ControlledWork,
    add_waiting_task,
    expire_lease,
    make_due,
    reload_task,
    wait_for_state,
)
from tests.real.waiting import eventually_so


@pytest.fixture
def work() -> ControlledWork:
    return ControlledWork()


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    opened = await open_catalog(f"sqlite:///{tmp_path}/catalogue.db")
    yield opened
    await opened.aclose()


@pytest.fixture(autouse=True)
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn polling off: no test may depend on it."""
    monkeypatch.setattr(module, "TASK_POLL_SECONDS", 600.0)
    monkeypatch.setattr(module, "LOCK_POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "FAILURE_PAUSE_SECONDS", 0.02)


@asynccontextmanager
async def run_tasks(catalog: Catalog, work: ControlledWork) -> AsyncIterator[SqliteTaskRunner]:
    place = catalog.database.location
    assert isinstance(place, SqliteLocation)
    runner = SqliteTaskRunner(catalog, place.path)
    async with runner.running(TaskExecutor(catalog, work, SLOTS)):
        yield runner


async def test_what_waits_is_done_and_what_comes_is_done_when_woken(catalog: Catalog, work: ControlledWork) -> None:
    before = [await add_waiting_task(catalog) for _ in range(5)]
    async with run_tasks(catalog, work) as runner:
        for task in before:
            await wait_for_state(catalog, task, TaskState.DONE)
        photo, video = await add_waiting_task(catalog), await add_waiting_task(catalog, AssetType.VIDEO)
        runner.wake()
        await wait_for_state(catalog, photo, TaskState.DONE)
        await wait_for_state(catalog, video, TaskState.DONE)
    assert set(work.done.values()) == {1}
    assert work.most[TaskKind.IMAGE] <= SLOTS[TaskKind.IMAGE]


async def test_what_the_dead_left_is_taken_back_at_start(catalog: Catalog, work: ControlledWork) -> None:
    task = await add_waiting_task(catalog)
    await expire_lease(catalog, task)
    async with run_tasks(catalog, work):
        done = await wait_for_state(catalog, task, TaskState.DONE)
    assert (done.attempts, done.deaths) == (1, 1)


async def test_a_second_runner_waits_and_takes_over(catalog: Catalog, work: ControlledWork) -> None:
    second = ControlledWork()
    async with run_tasks(catalog, work) as first:
        await first.has_lock.wait()
        async with run_tasks(catalog, second) as other:
            task = await add_waiting_task(catalog)
            first.wake()
            other.wake()
            await wait_for_state(catalog, task, TaskState.DONE)
            assert not other.has_lock.is_set()
            assert not second.begun

    async with run_tasks(catalog, second) as other:
        async with asyncio.timeout(20):
            await other.has_lock.wait()
        later = await add_waiting_task(catalog)
        other.wake()
        await wait_for_state(catalog, later, TaskState.DONE)
        assert second.done == {later.id: 1}


async def test_the_next_attempt_begins_at_its_time(catalog: Catalog, work: ControlledWork) -> None:
    task = await add_waiting_task(catalog)
    work.failure = WorkerCrashed("once")
    async with run_tasks(catalog, work) as runner:

        async def paused() -> bool:
            found = await reload_task(catalog, task)
            return found.state is TaskState.PENDING and found.attempts == 1

        await eventually_so(paused, "the first attempt has failed")
        work.failure = None
        await make_due(catalog, task)
        runner.wake()
        await wait_for_state(catalog, task, TaskState.DONE)
    assert work.begun[task.id] == 2


async def test_what_another_process_requests_is_found(
    catalog: Catalog, work: ControlledWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TASK_POLL_SECONDS", 0.05)
    async with run_tasks(catalog, work):
        task = await add_waiting_task(catalog)
        await wait_for_state(catalog, task, TaskState.DONE)


async def test_a_stop_is_bounded_and_gives_back(catalog: Catalog, work: ControlledWork) -> None:
    tasks = [await add_waiting_task(catalog) for _ in range(4)]
    work.hold()
    async with run_tasks(catalog, work):
        await eventually_so(lambda: _return(work.begun.total() == SLOTS[TaskKind.IMAGE]), "all slots are taken")
        began = time.monotonic()
    assert time.monotonic() - began < 15
    states = [(found.state, found.attempts) for found in [await reload_task(catalog, task) for task in tasks]]
    assert states == [(TaskState.PENDING, 0)] * 4


async def test_a_failure_of_the_database_does_not_end_it(
    catalog: Catalog, work: ControlledWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await add_waiting_task(catalog)
    claim_next, failures = catalog.tasks.claim_next, 3

    async def unreliable(*arguments):
        nonlocal failures
        if failures:
            failures -= 1
            raise CatalogUnavailable("locked") if failures else RuntimeError("who knows")
        return await claim_next(*arguments)

    monkeypatch.setattr(catalog.tasks, "claim_next", unreliable)
    async with run_tasks(catalog, work):
        await wait_for_state(catalog, task, TaskState.DONE)


async def _return(value: bool) -> bool:
    return value
