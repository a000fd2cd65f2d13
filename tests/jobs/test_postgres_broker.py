"""Delivery over PostgreSQL: to any number of workers, once each; no task is lost, whichever process dies or restarts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import wraps
from typing import Any

import pytest
from procrastinate.worker import Worker
from sqlalchemy import text

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.schema.records import AssetType, Task, TaskKind, TaskState
from app.jobs import delivery_schema
from app.jobs import postgres_broker as module
from app.jobs import task_executor as attempts_module
from app.jobs.delivery_schema import ensure_delivery_schema, list_migrations
from app.jobs.postgres_broker import TaskBroker, open_broker
from app.jobs.service import JobService
from app.jobs.task_executor import TaskExecutor
from app.media.errors import WorkerCrashed
from tests.jobs.controlled_tasks import (
    SLOTS,
    ControlledWork,
    add_waiting_task,
    expire_lease,
    reload_task,
    wait_for_state,
)
from tests.real.catalogues import Databases
from tests.real.postgres import Postgres
from tests.real.waiting import eventually_so


@pytest.fixture
def work() -> ControlledWork:
    return ControlledWork()


@pytest.fixture
async def db_url(databases: Databases) -> AsyncIterator[str]:
    url = databases.ready("postgresql")
    yield url
    databases.done(url)


@pytest.fixture
async def catalog(db_url: str) -> AsyncIterator[Catalog]:
    opened = await open_catalog(db_url)
    yield opened
    await opened.aclose()


@pytest.fixture(autouse=True)
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn polling off: no test may depend on it, unless it uses `frequent_polling`."""
    monkeypatch.setattr(module, "POLL_SECONDS", 600.0)
    monkeypatch.setattr(module, "RECONCILE_SECONDS", 600.0)
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.05)
    monkeypatch.setattr(module, "STALLED_CRON", "0 0 1 1 *")


@pytest.fixture
def frequent_polling(no_polling: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll every 50 ms."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(module, "RECONCILE_SECONDS", 0.05)


CALLS: Counter[str] = Counter()
"""How often workers have fetched jobs, and how often `reconcile` has run, in all tests."""


@pytest.fixture(autouse=True)
def counted_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "_fetch_and_process_jobs", count_calls(Worker._fetch_and_process_jobs))
    monkeypatch.setattr(TaskBroker, "reconcile", count_calls(TaskBroker.reconcile))


def count_calls(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @wraps(function)
    async def counted(*arguments: Any) -> None:
        await function(*arguments)
        CALLS[function.__name__] += 1

    return counted


@asynccontextmanager
async def run_broker(catalog: Catalog, work: ControlledWork) -> AsyncIterator[TaskBroker]:
    """A broker with workers that listen. The workers have fetched jobs once: procrastinate drops notifications that
    arrive during a fetch, until its next poll. The reconciler has run once, so it delivers nothing at the same time as
    the test."""
    before, listening = CALLS.copy(), await count_listeners(catalog)
    async with (
        open_broker(catalog) as broker,
        broker.run_workers(TaskExecutor(catalog, work, SLOTS, broker.deliver), SLOTS),
    ):

        async def ready() -> bool:
            calls = CALLS - before
            settled = calls["_fetch_and_process_jobs"] >= len(SLOTS) and calls["reconcile"]
            return bool(settled) and await count_listeners(catalog) >= listening + len(SLOTS)

        await eventually_so(ready, "the workers listen")
        yield broker


async def count_listeners(catalog: Catalog) -> int:
    """The number of connections to this database whose last command was LISTEN."""
    counted = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN%'"
    )
    async with catalog.database.read() as connection:
        return (await connection.execute(counted)).scalar_one()


async def list_deliveries(catalog: Catalog) -> list[dict[str, Any]]:
    async with catalog.database.read() as connection:
        rows = await connection.execute(text("SELECT * FROM procrastinate_jobs WHERE task_name = 'mediavault.attempt'"))
        return [dict(row) for row in rows.mappings()]


async def test_what_is_added_is_done_at_once(catalog: Catalog, work: ControlledWork) -> None:
    async with run_broker(catalog, work) as broker:
        tasks = [
            await add_waiting_task(catalog, type_) for type_ in (AssetType.IMAGE, AssetType.VIDEO) for _ in range(4)
        ]
        for task in tasks:
            broker.wake(task.asset_id)
        for task in tasks:
            await wait_for_state(catalog, task, TaskState.DONE)
        assert set(work.done.values()) == {1}

        async def tidy() -> bool:
            return await list_deliveries(catalog) == []

        await eventually_so(tidy, "deliveries are deleted when they are done")


async def test_an_api_without_worker_and_workers_on_other_hosts(catalog: Catalog, db_url: str) -> None:
    first, second = ControlledWork(), ControlledWork()
    other = await open_catalog(db_url)
    async with open_broker(catalog) as api, run_broker(catalog, first), run_broker(other, second):
        first.hold()
        second.hold()
        tasks = [await add_waiting_task(catalog) for _ in range(4)]
        for task in tasks:
            api.wake(task.asset_id)

        async def shared() -> bool:
            return first.begun.total() == second.begun.total() == SLOTS[TaskKind.IMAGE]

        await eventually_so(shared, "both work as much as they may")
        first.release()
        second.release()
        for task in tasks:
            await wait_for_state(catalog, task, TaskState.DONE)
    await other.aclose()
    assert (first.done + second.done).most_common(1)[0][1] == 1


async def test_nothing_is_queued_twice(catalog: Catalog) -> None:
    task, other = await add_waiting_task(catalog), await add_waiting_task(catalog)
    async with open_broker(catalog) as broker:
        await broker.deliver(task)
        await broker.deliver(task)
        await broker.deliver_all([task, other])
        await broker.deliver_all([task, other])
    queued = await list_deliveries(catalog)
    assert sorted(job["queueing_lock"] for job in queued) == sorted([str(task.id), str(other.id)])


async def test_a_failed_attempt_is_delivered_again_at_its_time(catalog: Catalog, work: ControlledWork) -> None:
    work.failure = WorkerCrashed("once")
    async with run_broker(catalog, work) as broker:
        task = await add_waiting_task(catalog)
        broker.wake(task.asset_id)

        async def scheduled() -> bool:
            jobs = await list_deliveries(catalog)
            return [job["status"] for job in jobs] == ["todo"] and jobs[0]["scheduled_at"] is not None

        await eventually_so(scheduled, "it is delivered again")
        (job,) = await list_deliveries(catalog)
        paused = await reload_task(catalog, task)
        assert job["scheduled_at"] == paused.not_before
        assert (paused.attempts, paused.error) == (1, "once")

        work.failure = None
        await JobService(catalog, broker).request_for(await owner_of(catalog, task), [task.asset_id])
        done = await wait_for_state(catalog, task, TaskState.DONE)
        assert done.attempts == 1, "asked for by hand it begins anew, and does not wait"


async def owner_of(catalog: Catalog, task: Task):
    asset = await catalog.assets.get(task.asset_id)
    assert asset is not None
    return asset.owner_id


@pytest.mark.usefixtures("frequent_polling")
async def test_what_was_never_delivered_and_what_the_dead_held_is_found(catalog: Catalog, work: ControlledWork) -> None:
    """All workers were gone for a while, and the process that added the assets died before it delivered them."""
    forgotten, held = await add_waiting_task(catalog), await add_waiting_task(catalog)
    await expire_lease(catalog, held)
    async with run_broker(catalog, work):
        await wait_for_state(catalog, forgotten, TaskState.DONE)
        recovered = await wait_for_state(catalog, held, TaskState.DONE)
    assert (recovered.attempts, recovered.deaths) == (1, 1)


async def test_a_delivery_that_a_dead_worker_had_taken_is_put_back(
    catalog: Catalog, work: ControlledWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await add_waiting_task(catalog)
    async with open_broker(catalog) as broker:
        await broker.deliver(task)
        async with catalog.database.write() as connection:
            await connection.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
        await expire_lease(catalog, task)
    monkeypatch.setattr(module, "STALLED_CRON", "* * * * * *")
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    async with run_broker(catalog, work):
        await wait_for_state(catalog, task, TaskState.DONE)
    assert work.done == {task.id: 1}


async def test_a_stalled_delivery_that_has_a_successor_is_dropped(catalog: Catalog) -> None:
    task = await add_waiting_task(catalog)
    async with open_broker(catalog) as broker:
        await broker.deliver(task)
        async with catalog.database.write() as connection:
            await connection.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
        await broker.deliver(task)
        await broker.retry_stalled()
    assert [job["status"] for job in await list_deliveries(catalog)] == ["todo"]


@pytest.mark.usefixtures("frequent_polling")
async def test_a_stop_is_bounded_and_others_go_on(catalog: Catalog, db_url: str, work: ControlledWork) -> None:
    tasks = [await add_waiting_task(catalog) for _ in range(3)]
    work.hold()
    async with run_broker(catalog, work):

        async def busy() -> bool:
            return work.begun.total() == SLOTS[TaskKind.IMAGE]

        await eventually_so(busy, "all slots are taken")
        began = time.monotonic()
    assert time.monotonic() - began < 20
    left = [await reload_task(catalog, task) for task in tasks]
    assert {(task.state, task.attempts, task.deaths) for task in left} == {(TaskState.PENDING, 0, 0)}

    second = ControlledWork()
    async with run_broker(catalog, second):
        for task in tasks:
            await wait_for_state(catalog, task, TaskState.DONE)


@pytest.mark.usefixtures("frequent_polling")
async def test_a_restart_of_the_database_loses_nothing(work: ControlledWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(attempts_module, "LEASE", timedelta(seconds=20))
    with Postgres() as server:
        catalog = await open_catalog(server.create_database())
        async with run_broker(catalog, work) as broker:
            work.hold()
            before = [await add_waiting_task(catalog) for _ in range(4)]
            for task in before:
                broker.wake(task.asset_id)

            async def busy() -> bool:
                return work.begun.total() == SLOTS[TaskKind.IMAGE]

            await eventually_so(busy, "work is going on")
            held = [task for task in before if work.begun[task.id]]
            await asyncio.to_thread(server.restart)
            work.release()

            for task in before:
                await wait_for_state(catalog, task, TaskState.DONE)
            after = await add_waiting_task(catalog)
            broker.wake(after.asset_id)
            await wait_for_state(catalog, after, TaskState.DONE)
            assert [work.done[task.id] for task in held] == [1] * len(held), "the work outlived the restart"
        await catalog.aclose()


async def test_processes_that_start_together_make_the_tables_of_deliveries_once(db_url: str) -> None:
    catalogs = [await open_catalog(db_url) for _ in range(4)]
    made = await asyncio.gather(*(ensure_delivery_schema(catalog.database) for catalog in catalogs))
    assert made.count(True) >= 1
    assert not await ensure_delivery_schema(catalogs[0].database)
    for catalog in catalogs:
        await catalog.aclose()


async def test_tables_of_an_older_package_are_brought_up_to_date(
    catalog: Catalog, work: ControlledWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the package installed before had all migrations except the last few."""
    known = list_migrations()
    async with catalog.database.write() as connection:
        for name in known[:-5]:
            await delivery_schema._execute_script(
                connection, delivery_schema._scripts.joinpath("migrations", name).read_text()
            )
        await connection.execute(
            text("INSERT INTO installation (name, value) VALUES ('procrastinate', :newest)"), {"newest": known[-6]}
        )

    async with run_broker(catalog, work) as broker:
        task = await add_waiting_task(catalog)
        broker.wake(task.asset_id)
        await wait_for_state(catalog, task, TaskState.DONE)
    assert await catalog.installation.get_flag("procrastinate") == known[-1]


async def test_workers_end_though_a_cancellation_is_lost_while_they_start(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they would work on, and the process could not end."""
    monkeypatch.setattr(module, "RECANCEL_SECONDS", 0.1)
    run, started = Worker.run, asyncio.Event()

    async def lose_cancellation(worker: Worker) -> None:
        started.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(module.STOP_SECONDS)
        await run(worker)

    monkeypatch.setattr(Worker, "run", lose_cancellation)
    async with open_broker(catalog) as broker:
        async with broker.run_workers(TaskExecutor(catalog, ControlledWork(), SLOTS, broker.deliver), SLOTS):
            await started.wait()
        left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("worker on")]
    assert left == []
