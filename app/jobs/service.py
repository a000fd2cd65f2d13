"""The entrance to the room: what is to be done to assets, asked for and told about. Whoever works on it may be this process or others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.database.engine import SqliteFile
from app.catalog.schema.records import Task, TaskKind
from app.config import Settings
from app.health.readiness import CheckFailed
from app.jobs.sqlite_runner import SqliteTaskRunner
from app.jobs.task_executor import ProcessTask, TaskExecutor

NEGLECTED_AFTER = timedelta(minutes=2)
"""A task that is due for so long while nobody works on any: there are no workers, or they have lost the database."""
CHECK_ROUNDS = 3
CHECK_PAUSE_SECONDS = 0.5
"""A worker is between two tasks now and then."""

WakeWorkers = Callable[[UUID], None]


class TaskDelivery(Protocol):
    """How tasks that are due come to whoever works on them."""

    def wake(self, asset_id: UUID) -> None:
        """The asset has a new task. Never waits."""
        ...

    async def deliver_all(self, tasks: Sequence[Task]) -> None:
        """These were requested again."""
        ...


class JobService:
    """Counts, failures and single tasks are asked for at `catalog.tasks`."""

    def __init__(self, catalog: Catalog, delivery: TaskDelivery, runner: SqliteTaskRunner | None = None) -> None:
        self._catalog = catalog
        self._delivery = delivery
        self.runner = runner
        """Where this process takes its work from SQLite."""

    def wake(self, asset_id: UUID) -> None:
        """An asset was added: its task is due. Never waits, and may be forgotten: the task row is there."""
        self._delivery.wake(asset_id)

    async def check_workers(self) -> None:
        """Raises `CheckFailed` where tasks wait and nobody works on them."""
        for _ in range(CHECK_ROUNDS):
            if not await self._catalog.tasks.has_neglected(datetime.now(UTC) - NEGLECTED_AFTER):
                return
            await asyncio.sleep(CHECK_PAUSE_SECONDS)
        raise CheckFailed("tasks wait, and nobody works on them")

    async def request_for(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> int:
        """Have these assets of the owner processed again; how many there are. What is being worked on is left alone."""
        requested = await self._catalog.tasks.request_for(owner_id, asset_ids)
        await self._delivery.deliver_all(requested)
        return len(requested)

    async def request_all(self, kinds: Sequence[TaskKind], *, remake: bool) -> AsyncIterator[int]:
        """Have everybody's assets processed again, all where `remake`, else those that lack something or failed. Yields now and then
        how many were requested since."""
        after: UUID | None = None
        while True:
            requested, after = await self._catalog.tasks.request(kinds, remake=remake, after=after)
            await self._delivery.deliver_all(requested)
            yield len(requested)
            if after is None:
                return


class _OtherProcessDelivery:
    """Another process works on the tasks in SQLite, and looks for them by itself."""

    def wake(self, asset_id: UUID) -> None:
        """It looks every few seconds."""

    async def deliver_all(self, tasks: Sequence[Task]) -> None:
        """The same."""


@asynccontextmanager
async def open_jobs(
    settings: Settings, catalog: Catalog, create_processor: Callable[[WakeWorkers], ProcessTask] | None
) -> AsyncIterator[JobService]:
    """Works on tasks by what `create_processor` gives; without it this process only asks for work. Raises `CatalogError`."""
    slots = compute_slots(settings)
    place = catalog.database.location
    async with AsyncExitStack() as stack:
        if isinstance(place, SqliteFile):
            if create_processor is None:
                yield JobService(catalog, _OtherProcessDelivery())
                return
            runner = SqliteTaskRunner(catalog, place.path)
            attempts = TaskExecutor(catalog, create_processor(runner.wake), slots)
            await stack.enter_async_context(runner.running(attempts))
            yield JobService(catalog, runner, runner)
            return
        from app.jobs.postgres_broker import open_broker  # noqa: PLC0415 - who keeps the catalogue in SQLite need not load it

        broker = await stack.enter_async_context(open_broker(catalog))
        if create_processor is not None:
            attempts = TaskExecutor(catalog, create_processor(broker.wake), slots, broker.deliver)
            await stack.enter_async_context(broker.run_workers(attempts, slots))
        yield JobService(catalog, broker)


async def prepare_delivery_schema(catalog: Catalog) -> None:
    """Bring the tables of the deliveries up to date, where there are any; `open_jobs` does it too. Raises `CatalogError`."""
    if not isinstance(catalog.database.location, SqliteFile):
        from app.jobs.delivery_schema import ensure_delivery_schema  # noqa: PLC0415 - see above

        await ensure_delivery_schema(catalog.database)


def compute_slots(settings: Settings) -> Mapping[TaskKind, int]:
    """How many tasks of each kind a process works on at once."""
    photos = settings.photo_tasks or len(os.sched_getaffinity(0))
    return {TaskKind.IMAGE: photos, TaskKind.VIDEO: settings.video_tasks}
