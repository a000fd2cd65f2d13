"""Attempts: each outcome is recorded, however long the database is unavailable; a stop gives all tasks back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogUnavailable
from app.catalog.schema.records import AssetType, Task, TaskKind, TaskState
from app.jobs import task_executor as module
from app.jobs.task_executor import ExecutorStopping, TaskExecutor
from app.media.errors import DecodeFailed, WorkerCrashed
from app.storage.errors import StorageUnavailable
from tests.jobs.controlled_tasks import SLOTS, ControlledWork, add_waiting_task, make_due, reload_task, wait_for_state
from tests.real.waiting import eventually_so


@pytest.fixture
def work() -> ControlledWork:
    return ControlledWork()


@pytest.fixture
async def attempts(catalog: Catalog, work: ControlledWork) -> AsyncIterator[TaskExecutor]:
    attempts = TaskExecutor(catalog, work, SLOTS)
    yield attempts
    await attempts.stop()


async def begin(attempts: TaskExecutor, work: ControlledWork, *tasks: Task) -> list[asyncio.Task[None]]:
    """Start attempts, and wait until each has begun its work."""
    work.hold()
    taking = [asyncio.create_task(attempts.run_task(task.id, task.kind)) for task in tasks]

    async def begun() -> bool:
        return all(work.begun[task.id] for task in tasks)

    await eventually_so(begun, "the work has begun")
    return taking


async def test_an_attempt_that_succeeds(catalog: Catalog, attempts: TaskExecutor, work: ControlledWork) -> None:
    task = await add_waiting_task(catalog)
    await attempts.run_task(task.id, task.kind)
    await attempts.run_task(task.id, task.kind)
    assert (await reload_task(catalog, task)).state is TaskState.DONE
    assert work.done == {task.id: 1}


async def test_three_attempts_at_most(catalog: Catalog, attempts: TaskExecutor, work: ControlledWork) -> None:
    task = await add_waiting_task(catalog)
    work.failure = WorkerCrashed("signal 11")
    for number in (1, 2):
        await attempts.run_task(task.id, task.kind)
        paused = await reload_task(catalog, task)
        assert (paused.state, paused.attempts, paused.error) == (TaskState.PENDING, number, "signal 11")
        assert paused.not_before > datetime.now(UTC)
        await attempts.run_task(task.id, task.kind)
        assert work.begun[task.id] == number, "not before its time"
        await make_due(catalog, task)

    await attempts.run_task(task.id, task.kind)

    failed = await reload_task(catalog, task)
    assert (failed.state, failed.attempts, failed.error) == (TaskState.FAILED, 3, "signal 11")


async def test_a_broken_file_is_tried_once(catalog: Catalog, attempts: TaskExecutor, work: ControlledWork) -> None:
    task = await add_waiting_task(catalog)
    work.failure = DecodeFailed("no picture")
    await attempts.run_task(task.id, task.kind)
    failed = await reload_task(catalog, task)
    assert (failed.state, failed.attempts, failed.error) == (TaskState.FAILED, 1, "no picture")


async def test_a_store_that_is_away_costs_no_attempt(
    catalog: Catalog, attempts: TaskExecutor, work: ControlledWork
) -> None:
    task = await add_waiting_task(catalog)
    work.failure = StorageUnavailable("k", "s3", "does not answer")
    for _ in range(5):
        await attempts.run_task(task.id, task.kind)
        await make_due(catalog, task)
    put_off = await reload_task(catalog, task)
    assert (put_off.state, put_off.attempts) == (TaskState.PENDING, 0)
    assert "does not answer" in (put_off.error or "")


async def test_a_stop_gives_back_what_is_being_worked_on(
    catalog: Catalog, attempts: TaskExecutor, work: ControlledWork
) -> None:
    one, two = await add_waiting_task(catalog), await add_waiting_task(catalog)
    taking = await begin(attempts, work, one, two)

    async with asyncio.timeout(20):
        await attempts.stop()

    await asyncio.gather(*taking, return_exceptions=True)
    for task in (one, two):
        back = await reload_task(catalog, task)
        assert (back.state, back.attempts, back.deaths, back.error) == (TaskState.PENDING, 0, 0, None)
    assert work.cancelled == {one.id: 1, two.id: 1}
    with pytest.raises(ExecutorStopping):
        await attempts.run_task(one.id, one.kind)


async def test_who_only_stops_waiting_does_not_stop_the_work(
    catalog: Catalog, attempts: TaskExecutor, work: ControlledWork
) -> None:
    task = await add_waiting_task(catalog)
    (taking,) = await begin(attempts, work, task)
    taking.cancel()
    await asyncio.wait([taking])
    work.release()
    await wait_for_state(catalog, task, TaskState.DONE)


async def test_a_task_that_was_taken_away_is_let_go(
    catalog: Catalog, attempts: TaskExecutor, work: ControlledWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    task = await add_waiting_task(catalog)
    (taking,) = await begin(attempts, work, task)

    await catalog.tasks.recover_lapsed()

    async with asyncio.timeout(20):
        await taking
    assert work.cancelled == {task.id: 1}
    assert (await reload_task(catalog, task)).state is TaskState.PENDING


async def test_a_lease_is_renewed_while_the_work_goes_on(
    catalog: Catalog, attempts: TaskExecutor, work: ControlledWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    task = await add_waiting_task(catalog)
    (taking,) = await begin(attempts, work, task)
    first = (await reload_task(catalog, task)).not_before

    async def renewed() -> bool:
        return (await reload_task(catalog, task)).not_before > first + timedelta(milliseconds=100)

    await eventually_so(renewed, "the lease is renewed")
    work.release()
    await taking


async def test_the_end_is_written_once_the_database_is_back(
    catalog: Catalog, attempts: TaskExecutor, work: ControlledWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await add_waiting_task(catalog)
    (taking,) = await begin(attempts, work, task)
    away = True
    finish = catalog.tasks.finish

    async def unreliable(*arguments):
        if away:
            raise CatalogUnavailable("restarts")
        return await finish(*arguments)

    monkeypatch.setattr(catalog.tasks, "finish", unreliable)
    work.release()
    await eventually_so(lambda: _return(work.done[task.id] == 1), "the work is done")
    assert not taking.done()
    away = False

    async with asyncio.timeout(20):
        await taking
    assert (await reload_task(catalog, task)).state is TaskState.DONE


async def test_no_more_at_once_than_there_are_slots(
    catalog: Catalog, attempts: TaskExecutor, work: ControlledWork
) -> None:
    photos = [await add_waiting_task(catalog) for _ in range(5)]
    videos = [await add_waiting_task(catalog, AssetType.VIDEO) for _ in range(3)]

    async with asyncio.timeout(20):
        await asyncio.gather(*(attempts.run_task(task.id, task.kind) for task in (*photos, *videos)))

    assert work.done.total() == 8
    assert work.most[TaskKind.IMAGE] <= SLOTS[TaskKind.IMAGE]
    assert work.most[TaskKind.VIDEO] == 1


async def test_who_is_cancelled_while_claiming_keeps_nothing(
    catalog: Catalog, attempts: TaskExecutor, work: ControlledWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await add_waiting_task(catalog)
    claimed = asyncio.Event()
    claim = catalog.tasks.claim

    async def slow(*arguments):
        found = await claim(*arguments)
        claimed.set()
        await asyncio.sleep(0.05)
        return found

    monkeypatch.setattr(catalog.tasks, "claim", slow)
    taking = asyncio.create_task(attempts.run_task(task.id, task.kind))
    await claimed.wait()
    taking.cancel()
    await asyncio.wait([taking])

    back = await reload_task(catalog, task)
    assert (back.state, back.attempts) == (TaskState.PENDING, 0)
    assert not work.begun


async def _return(value: bool) -> bool:
    return value
