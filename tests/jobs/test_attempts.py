"""Attempts: their end is written to the task, whatever it is and however long the database is away; a stop gives everything back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogUnavailable
from app.catalog.records import AssetType, Task, TaskKind, TaskState
from app.jobs import attempts as module
from app.jobs.attempts import Attempts, Stopping
from app.media.errors import Crashed, DecodeFailed
from app.storage.errors import StorageUnavailable
from tests.jobs.work import SLOTS, Work, becomes, make_due, now_of, waiting
from tests.real.awaiting import eventually_so


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def attempts(catalog: Catalog, work: Work) -> AsyncIterator[Attempts]:
    attempts = Attempts(catalog, work, SLOTS)
    yield attempts
    await attempts.stop()


async def begin(attempts: Attempts, work: Work, *tasks: Task) -> list[asyncio.Task[None]]:
    """Attempts that are in the middle of their work."""
    work.hold()
    taking = [asyncio.create_task(attempts.take(task.id, task.kind)) for task in tasks]

    async def begun() -> bool:
        return all(work.begun[task.id] for task in tasks)

    await eventually_so(begun, "the work has begun")
    return taking


async def test_an_attempt_that_succeeds(catalog: Catalog, attempts: Attempts, work: Work) -> None:
    task = await waiting(catalog)
    await attempts.take(task.id, task.kind)
    await attempts.take(task.id, task.kind)
    assert (await now_of(catalog, task)).state is TaskState.DONE
    assert work.done == {task.id: 1}


async def test_three_attempts_at_most(catalog: Catalog, attempts: Attempts, work: Work) -> None:
    task = await waiting(catalog)
    work.failure = Crashed("signal 11")
    for number in (1, 2):
        await attempts.take(task.id, task.kind)
        paused = await now_of(catalog, task)
        assert (paused.state, paused.attempts, paused.error) == (TaskState.PENDING, number, "signal 11")
        assert paused.not_before > datetime.now(UTC)
        await attempts.take(task.id, task.kind)
        assert work.begun[task.id] == number, "not before its time"
        await make_due(catalog, task)

    await attempts.take(task.id, task.kind)

    failed = await now_of(catalog, task)
    assert (failed.state, failed.attempts, failed.error) == (TaskState.FAILED, 3, "signal 11")


async def test_a_broken_file_is_tried_once(catalog: Catalog, attempts: Attempts, work: Work) -> None:
    task = await waiting(catalog)
    work.failure = DecodeFailed("no picture")
    await attempts.take(task.id, task.kind)
    failed = await now_of(catalog, task)
    assert (failed.state, failed.attempts, failed.error) == (TaskState.FAILED, 1, "no picture")


async def test_a_store_that_is_away_costs_no_attempt(catalog: Catalog, attempts: Attempts, work: Work) -> None:
    task = await waiting(catalog)
    work.failure = StorageUnavailable("k", "s3", "does not answer")
    for _ in range(5):
        await attempts.take(task.id, task.kind)
        await make_due(catalog, task)
    put_off = await now_of(catalog, task)
    assert (put_off.state, put_off.attempts) == (TaskState.PENDING, 0)
    assert "does not answer" in (put_off.error or "")


async def test_a_stop_gives_back_what_is_being_worked_on(catalog: Catalog, attempts: Attempts, work: Work) -> None:
    one, two = await waiting(catalog), await waiting(catalog)
    taking = await begin(attempts, work, one, two)

    async with asyncio.timeout(20):
        await attempts.stop()

    await asyncio.gather(*taking, return_exceptions=True)
    for task in (one, two):
        back = await now_of(catalog, task)
        assert (back.state, back.attempts, back.deaths, back.error) == (TaskState.PENDING, 0, 0, None)
    assert work.cancelled == {one.id: 1, two.id: 1}
    with pytest.raises(Stopping):
        await attempts.take(one.id, one.kind)


async def test_who_only_stops_waiting_does_not_stop_the_work(catalog: Catalog, attempts: Attempts, work: Work) -> None:
    task = await waiting(catalog)
    (taking,) = await begin(attempts, work, task)
    taking.cancel()
    await asyncio.wait([taking])
    work.release()
    await becomes(catalog, task, TaskState.DONE)


async def test_a_task_that_was_taken_away_is_let_go(
    catalog: Catalog, attempts: Attempts, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    task = await waiting(catalog)
    (taking,) = await begin(attempts, work, task)

    await catalog.tasks.recover()

    async with asyncio.timeout(20):
        await taking
    assert work.cancelled == {task.id: 1}
    assert (await now_of(catalog, task)).state is TaskState.PENDING


async def test_a_lease_is_renewed_while_the_work_goes_on(
    catalog: Catalog, attempts: Attempts, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    task = await waiting(catalog)
    (taking,) = await begin(attempts, work, task)
    first = (await now_of(catalog, task)).not_before

    async def renewed() -> bool:
        return (await now_of(catalog, task)).not_before > first + timedelta(milliseconds=100)

    await eventually_so(renewed, "the lease is renewed")
    work.release()
    await taking


async def test_the_end_is_written_once_the_database_is_back(
    catalog: Catalog, attempts: Attempts, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await waiting(catalog)
    (taking,) = await begin(attempts, work, task)
    away = True
    finish = catalog.tasks.finish

    async def unreliable(*arguments):
        if away:
            raise CatalogUnavailable("restarts")
        return await finish(*arguments)

    monkeypatch.setattr(catalog.tasks, "finish", unreliable)
    work.release()
    await eventually_so(lambda: _true(work.done[task.id] == 1), "the work is done")
    assert not taking.done()
    away = False

    async with asyncio.timeout(20):
        await taking
    assert (await now_of(catalog, task)).state is TaskState.DONE


async def test_no_more_at_once_than_there_are_slots(catalog: Catalog, attempts: Attempts, work: Work) -> None:
    photos = [await waiting(catalog) for _ in range(5)]
    videos = [await waiting(catalog, AssetType.VIDEO) for _ in range(3)]

    async with asyncio.timeout(20):
        await asyncio.gather(*(attempts.take(task.id, task.kind) for task in (*photos, *videos)))

    assert work.done.total() == 8
    assert work.most[TaskKind.IMAGE] <= SLOTS[TaskKind.IMAGE]
    assert work.most[TaskKind.VIDEO] == 1


async def test_who_is_cancelled_while_claiming_keeps_nothing(
    catalog: Catalog, attempts: Attempts, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await waiting(catalog)
    claimed = asyncio.Event()
    claim = catalog.tasks.claim

    async def slow(*arguments):
        found = await claim(*arguments)
        claimed.set()
        await asyncio.sleep(0.05)
        return found

    monkeypatch.setattr(catalog.tasks, "claim", slow)
    taking = asyncio.create_task(attempts.take(task.id, task.kind))
    await claimed.wait()
    taking.cancel()
    await asyncio.wait([taking])

    back = await now_of(catalog, task)
    assert (back.state, back.attempts) == (TaskState.PENDING, 0)
    assert not work.begun


async def _true(value: bool) -> bool:
    return value
