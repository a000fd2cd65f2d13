"""Task processing that a test controls, and helpers that change or await the states of tasks."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import update

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, Task, TaskKind, TaskState
from tests.catalog.rows import make_user, task_of, upload
from tests.real.waiting import eventually_so

SLOTS = {TaskKind.IMAGE: 2, TaskKind.VIDEO: 1}


class ControlledWork:
    """Replaces the pipeline: tasks succeed or raise `failure`, and wait while they are held."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.begun: Counter[UUID] = Counter()
        self.done: Counter[UUID] = Counter()
        self.cancelled: Counter[UUID] = Counter()
        self.most: Counter[TaskKind] = Counter()
        self._now: Counter[TaskKind] = Counter()
        self._may_end = asyncio.Event()
        self._may_end.set()

    def hold(self) -> None:
        self._may_end.clear()

    def release(self) -> None:
        self._may_end.set()

    async def __call__(self, task: Task) -> None:
        self.begun[task.id] += 1
        self._now[task.kind] += 1
        self.most[task.kind] = max(self.most[task.kind], self._now[task.kind])
        try:
            await self._may_end.wait()
            if self.failure is not None:
                raise self.failure
            self.done[task.id] += 1
        except asyncio.CancelledError:
            self.cancelled[task.id] += 1
            raise
        finally:
            self._now[task.kind] -= 1


async def add_waiting_task(catalog: Catalog, type_: AssetType = AssetType.IMAGE) -> Task:
    """Upload an asset and return its task."""
    return await task_of(catalog, await upload(catalog, (await make_user(catalog)).id, type=type_))


async def reload_task(catalog: Catalog, task: Task) -> Task:
    found = await catalog.tasks.get(task.id)
    assert found is not None
    return found


async def wait_for_state(catalog: Catalog, task: Task, state: TaskState) -> Task:
    """Wait until the task is in this state, and return it."""

    async def so() -> bool:
        return (await reload_task(catalog, task)).state is state

    await eventually_so(so, f"the task is {state}")
    return await reload_task(catalog, task)


async def expire_lease(catalog: Catalog, task: Task) -> None:
    """Claim the task with an expired lease, as a process leaves it that was killed during an attempt."""
    assert await catalog.tasks.claim(task.id, uuid4(), timedelta(seconds=-1)) is not None


async def make_due(catalog: Catalog, task: Task) -> None:
    """Make the task due now, as if its delay were over."""
    async with catalog.database.write() as connection:
        mine = tables.task.c.id == task.id
        await connection.execute(update(tables.task).where(mine).values(not_before=datetime.now(UTC)))
