"""Requests processing of assets, and opens what hands tasks to workers: `SqliteTaskRunner` on SQLite, `TaskBroker` on
PostgreSQL. The
workers may run in this process or in others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.database.locations import SqliteLocation
from app.catalog.schema.records import Task, TaskKind
from app.config import Settings
from app.health.readiness import CheckFailed
from app.jobs.sqlite_runner import SqliteTaskRunner
from app.jobs.task_executor import ProcessTask, TaskExecutor
from app.jobs.task_metrics import TaskMetrics
from app.metrics.instruments import ProcessMetrics

NEGLECTED_AFTER = timedelta(minutes=2)
"""If a task has been due for so long and no task is being worked on, there are no workers, or they have lost the
database."""
CHECK_ROUNDS = 3
CHECK_PAUSE_SECONDS = 0.5
"""A check repeats after this pause, as a worker may be between two tasks."""

RESUMED_AT_ONCE = 1000
"""Tasks delivered when a queue is resumed; the brokers find further ones."""

WakeWorkers = Callable[[UUID], None]


class TaskDelivery(Protocol):
    """Delivery of due tasks to workers."""

    def wake(self, asset_id: UUID) -> None:
        """Deliver the asset's new task soon. Never waits."""
        ...

    async def deliver_all(self, tasks: Sequence[Task]) -> None:
        """Deliver these tasks, which were requested again."""
        ...


class JobService:
    """Requests processing. For counts, failures and single tasks, use `catalog.tasks`."""

    def __init__(self, catalog: Catalog, delivery: TaskDelivery, runner: SqliteTaskRunner | None = None) -> None:
        self._catalog = catalog
        self._delivery = delivery
        self.runner = runner
        """Set if this process runs tasks from SQLite."""

    def wake(self, asset_id: UUID) -> None:
        """Deliver the task of an asset that was added. Never waits. The call may be lost: the `task` row is enough."""
        self._delivery.wake(asset_id)

    async def check_workers(self) -> None:
        """Raises `CheckFailed` when tasks are due and no worker works on any."""
        for _ in range(CHECK_ROUNDS):
            if not await self._catalog.tasks.has_neglected(datetime.now(UTC) - NEGLECTED_AFTER):
                return
            await asyncio.sleep(CHECK_PAUSE_SECONDS)
        raise CheckFailed("tasks wait, and nobody works on them")

    async def request_for(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> int:
        """Request processing of those of the assets that belong to the owner again. Returns how many. Tasks that are
        running are left alone."""
        requested = await self._catalog.tasks.request_for(owner_id, asset_ids)
        await self._delivery.deliver_all(requested)
        return len(requested)

    async def resume(self, kind: TaskKind) -> None:
        """Have the tasks of a paused queue run again, at once."""
        await self._catalog.task_queues.resume(kind)
        await self._delivery.deliver_all(await self._catalog.task_queues.list_due(kind, RESUMED_AT_ONCE))

    async def request_all(self, kinds: Sequence[TaskKind], *, remake: bool) -> AsyncIterator[int]:
        """Request processing of the assets of all users again: all of them with `remake`, else those that lack a
        derivative or failed. Yields how many were requested since the last yield."""
        after: UUID | None = None
        while True:
            requested, after = await self._catalog.tasks.request(kinds, remake=remake, after=after)
            await self._delivery.deliver_all(requested)
            yield len(requested)
            if after is None:
                return


class _OtherProcessDelivery:
    """Delivers nothing: another process runs the tasks in SQLite, and polls for them."""

    def wake(self, asset_id: UUID) -> None:
        """Does nothing: the other process polls every few seconds."""

    async def deliver_all(self, tasks: Sequence[Task]) -> None:
        """Does nothing, as `wake`."""


@asynccontextmanager
async def open_jobs(
    settings: Settings,
    catalog: Catalog,
    create_processor: Callable[[WakeWorkers], ProcessTask] | None,
    metrics: ProcessMetrics | None = None,
) -> AsyncIterator[JobService]:
    """Open the delivery, and run tasks with the processor that `create_processor` returns; if it is None, this process
    only requests work. Raises `CatalogError`."""
    slots = compute_slots(settings)
    on_attempt_ended = TaskMetrics(metrics).record_attempt if metrics is not None else None
    location = catalog.database.location
    async with AsyncExitStack() as stack:
        if isinstance(location, SqliteLocation):
            if create_processor is None:
                yield JobService(catalog, _OtherProcessDelivery())
                return
            runner = SqliteTaskRunner(catalog, location.path)
            executor = TaskExecutor(catalog, create_processor(runner.wake), slots, on_attempt_ended=on_attempt_ended)
            await stack.enter_async_context(runner.running(executor))
            yield JobService(catalog, runner, runner)
            return
        from app.jobs.postgres_broker import open_broker  # noqa: PLC0415 - not needed with SQLite

        broker = await stack.enter_async_context(open_broker(catalog))
        if create_processor is not None:
            executor = TaskExecutor(catalog, create_processor(broker.wake), slots, broker.deliver, on_attempt_ended)
            await stack.enter_async_context(broker.run_workers(executor, slots))
        yield JobService(catalog, broker)


async def prepare_delivery_schema(catalog: Catalog) -> None:
    """Upgrade the tables of the delivery, if there are any; `open_jobs` does so, too. Raises `CatalogError`."""
    if not isinstance(catalog.database.location, SqliteLocation):
        from app.jobs.delivery_schema import ensure_delivery_schema  # noqa: PLC0415 - see above

        await ensure_delivery_schema(catalog.database)


def compute_slots(settings: Settings) -> Mapping[TaskKind, int]:
    """How many tasks of each kind a process runs at once."""
    photos = settings.photo_tasks or len(os.sched_getaffinity(0))
    return {TaskKind.IMAGE: photos, TaskKind.VIDEO: settings.video_tasks}
