"""Rows of table `task`: the media processing that each asset needs, and how it ended. Nothing here runs a task.

The process that works on a task holds it by a lease and by the id of the run, so that a process that was declared dead
can no longer record an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Row, and_, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.bulk_statements import insert_rows
from app.catalog.database.engine import Database, now
from app.catalog.database.prepared_statements import prepare
from app.catalog.errors import ConstraintViolation
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, FileKind, Task, TaskCounts, TaskKind, TaskState
from app.catalog.task_queues import where_not_paused

_asset = tables.asset
_derivative = tables.derivative
_task = tables.task

TASK_KINDS = {AssetType.IMAGE: TaskKind.IMAGE, AssetType.VIDEO: TaskKind.VIDEO}
"""The task of an asset of each type; other types have none."""
REPEATED_PRIORITY = 1
"""The priority of processing that is repeated on request or found by a scan: after new uploads (0)."""
MAX_DEATHS = 5
"""A task fails after the death of so many processes that worked on it: otherwise it could kill every worker, one after
the other."""

MISSING_ONLY = datetime(1970, 1, 1, tzinfo=UTC)
"""`Task.requested_at` of assets that come with derivatives and metadata of another program: only what is missing is made."""

_REQUEST_BATCH = 500
_REQUIRED_KINDS = (FileKind.THUMBNAIL, FileKind.PREVIEW)
"""Every processed asset has these derivatives."""
_INSERT_ONE = prepare(insert(_task))
_INITIAL_VALUES = {"state": TaskState.PENDING, "attempts": 0, "deaths": 0, "error": None, "run_id": None}


class TaskRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, task_id: UUID, run_id: UUID, lease: timedelta) -> Task | None:
        """Begin an attempt. Returns None when the task is not due, belongs to another run, or does not exist, or its queue
        is paused."""
        return await self._claim(_task.c.id == task_id, run_id, lease)

    async def claim_next(self, kind: TaskKind, run_id: UUID, lease: timedelta) -> Task | None:
        """Begin an attempt at the most urgent task that is due. Returns None when there is none."""
        return await self._claim(_task.c.kind == kind, run_id, lease)

    async def renew_lease(self, task_id: UUID, run_id: UUID, lease: timedelta) -> bool:
        """Returns False when the task no longer belongs to that run, or the asset is gone; the work must then stop."""
        return await self._update_claimed(task_id, run_id, {"not_before": now() + lease})

    async def finish(self, task_id: UUID, run_id: UUID) -> bool:
        """Record success. Returns False as `renew_lease` does."""
        return await self._update_claimed(task_id, run_id, {"state": TaskState.DONE, "error": None, "run_id": None})

    async def fail(self, task_id: UUID, run_id: UUID, error: str, retry_at: datetime | None) -> bool:
        """Record a failed attempt. The next one begins at `retry_at`; None: there is none. Returns False as
        `renew_lease` does."""
        values = {"state": TaskState.FAILED, "error": error, "run_id": None}
        if retry_at is not None:
            values |= {"state": TaskState.PENDING, "not_before": retry_at}
        return await self._update_claimed(task_id, run_id, values)

    async def release(
        self, task_id: UUID, run_id: UUID, *, reason: str | None = None, retry_at: datetime | None = None
    ) -> bool:
        """Give the task back without counting the attempt: it was interrupted, or could not be made for a reason
        outside the asset. Returns False as `renew_lease` does."""
        values = {"state": TaskState.PENDING, "attempts": _task.c.attempts - 1, "run_id": None}
        if reason is not None:
            values["error"] = reason
        return await self._update_claimed(task_id, run_id, values | {"not_before": retry_at or now()})

    async def recover_lapsed(self, lapsed_before: datetime | None = None) -> list[Task]:
        """Take back `running` tasks whose lease expired before `lapsed_before` (None: all `running` tasks), because
        their process died. Returns the tasks that are pending again; a task that has killed `MAX_DEATHS` processes
        fails."""
        is_lapsed = _task.c.kind.in_(list(TaskKind)) & (_task.c.state == TaskState.RUNNING)
        if lapsed_before is not None:
            is_lapsed &= _task.c.not_before <= lapsed_before
        is_last_death = _task.c.deaths + 1 >= MAX_DEATHS
        values = {
            "state": case((is_last_death, TaskState.FAILED.value), else_=TaskState.PENDING.value),
            "error": case(
                (is_last_death, f"{MAX_DEATHS} processes ended while they worked on it"), else_=_task.c.error
            ),
            "attempts": _task.c.attempts - 1,
            "deaths": _task.c.deaths + 1,
            "run_id": None,
            "not_before": now(),
            "updated_at": now(),
        }
        async with self._database.write() as connection:
            rows = await connection.execute(update(_task).where(is_lapsed).values(values).returning(_task))
            return [task for task in map(_task_from_row, rows) if task.state is TaskState.PENDING]

    async def get_next_due(self, kind: TaskKind) -> datetime | None:
        """When the next pending task may begin; None when there is none, or the queue is paused."""
        pending = (_task.c.kind == kind) & (_task.c.state == TaskState.PENDING) & where_not_paused()
        async with self._database.read() as connection:
            found = await connection.execute(
                select(_task.c.not_before).where(pending).order_by(_task.c.not_before).limit(1)
            )
            return found.scalar_one_or_none()

    async def has_neglected(self, due_before: datetime) -> bool:
        """Whether a task has been due since before `due_before`, its queue is not paused, and no process is working on any
        task."""
        kinds = list(TaskKind)
        due = (_task.c.state == TaskState.PENDING) & (_task.c.not_before <= due_before) & where_not_paused()
        worked_on = (_task.c.state == TaskState.RUNNING) & (_task.c.not_before > now())
        async with self._database.read() as connection:
            for condition, expected in ((due, True), (worked_on, False)):
                found = await connection.execute(select(_task.c.id).where(_task.c.kind.in_(kinds), condition).limit(1))
                if (found.first() is not None) is not expected:
                    return False
        return True

    async def get(self, task_id: UUID) -> Task | None:
        return next(iter(await self.get_many([task_id])), None)

    async def get_many(self, task_ids: Iterable[UUID]) -> list[Task]:
        """The tasks with these ids that exist."""
        return [task for batch in iterate_batches(task_ids) for task in await self._select(_task.c.id.in_(batch))]

    async def get_for_asset(self, asset_id: UUID) -> Task | None:
        """The task of the asset, finished or not."""
        return next(iter(await self.get_for_assets([asset_id])), None)

    async def get_for_assets(self, asset_ids: Iterable[UUID]) -> list[Task]:
        """The tasks of these assets; assets without one are left out."""
        return [
            task for batch in iterate_batches(asset_ids) for task in await self._select(_task.c.asset_id.in_(batch))
        ]

    async def get_failures(self, limit: int = 100) -> list[Task]:
        """Failed tasks, the latest first."""
        failed = _task.c.kind.in_(list(TaskKind)) & (_task.c.state == TaskState.FAILED)
        return await self._select(failed, _task.c.updated_at.desc(), limit=limit)

    async def count_by_kind(self) -> dict[TaskKind, TaskCounts]:
        """Counts for every kind, also for kinds without tasks."""
        delayed_count = func.count(case((and_(_task.c.state == TaskState.PENDING, _task.c.not_before > now()), 1)))
        grouped = select(_task.c.kind, _task.c.state, func.count(), delayed_count).group_by(_task.c.kind, _task.c.state)
        counts: dict[TaskKind, dict[str, int]] = {kind: {} for kind in TaskKind}
        async with self._database.read() as connection:
            for kind, state, count, delayed in await connection.execute(grouped):
                counts[kind][state.value] = count
                counts[kind]["delayed"] = counts[kind].get("delayed", 0) + delayed
        return {kind: TaskCounts(**numbers) for kind, numbers in counts.items()}

    async def count_outstanding(self, kinds: Iterable[TaskKind]) -> int:
        """How many tasks with `REPEATED_PRIORITY` are pending or running."""
        outstanding = _task.c.kind.in_(list(kinds)) & _task.c.state.in_([TaskState.PENDING, TaskState.RUNNING])
        statement = select(func.count()).where(outstanding, _task.c.priority == REPEATED_PRIORITY)
        async with self._database.read() as connection:
            return (await connection.execute(statement)).scalar_one()

    async def request(
        self, kinds: Iterable[TaskKind], *, remake: bool, after: UUID | None = None
    ) -> tuple[list[Task], UUID | None]:
        """Request processing of the next `_REQUEST_BATCH` assets again, in the order of their ids. With `remake` all of
        them, and derivatives made before now are made again; without it those that lack a derivative, failed, or wait
        for a retry. Returns the tasks, and the id after which to continue; None at the end."""
        condition = _asset.c.type.in_([type_ for type_, kind in TASK_KINDS.items() if kind in kinds])
        if after is not None:
            condition &= _asset.c.id > after
        return await self._request(condition, remake=remake)

    async def request_for(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> list[Task]:
        """Request processing of those of the assets that belong to `owner_id` again; derivatives made before now are
        made again."""
        requested: list[Task] = []
        distinct = list(dict.fromkeys(asset_ids))
        for start in range(0, len(distinct), _REQUEST_BATCH):
            mine = (_asset.c.owner_id == owner_id) & _asset.c.id.in_(distinct[start : start + _REQUEST_BATCH])
            requested += (await self._request(mine & _asset.c.type.in_(TASK_KINDS), remake=True))[0]
        return requested

    async def _request(self, condition: ColumnElement[bool], *, remake: bool) -> tuple[list[Task], UUID | None]:
        while True:
            try:
                async with self._database.write() as connection:
                    return await _request(connection, condition, remake=remake)
            except ConstraintViolation:
                continue  # another transaction inserted the same tasks; the next iteration sees them

    async def _claim(self, condition: ColumnElement[bool], run_id: UUID, lease: timedelta) -> Task | None:
        moment = now()
        due = condition & (_task.c.state == TaskState.PENDING) & (_task.c.not_before <= moment) & where_not_paused()
        order = (_task.c.priority, _task.c.not_before)
        chosen = select(_task.c.id).where(due).order_by(*order).limit(1).with_for_update(skip_locked=True)
        values = {
            "state": TaskState.RUNNING,
            "attempts": _task.c.attempts + 1,
            "run_id": run_id,
            "not_before": moment + lease,
            "updated_at": moment,
        }
        async with self._database.write() as connection:
            task_id = (await connection.execute(chosen)).scalar_one_or_none()
            if task_id is None:
                return None
            claimed = update(_task).where(_task.c.id == task_id).values(values).returning(_task)
            return _task_from_row((await connection.execute(claimed)).one())

    async def _update_claimed(self, task_id: UUID, run_id: UUID, values: dict[str, Any]) -> bool:
        claimed = (_task.c.id == task_id) & (_task.c.run_id == run_id)
        async with self._database.write() as connection:
            statement = update(_task).where(claimed).values(values | {"updated_at": now()})
            return (await connection.execute(statement)).rowcount == 1

    async def _select(self, condition: ColumnElement[bool], *order: Any, limit: int | None = None) -> list[Task]:
        statement = select(_task).where(condition).order_by(*order).limit(limit)
        async with self._database.read() as connection:
            return [_task_from_row(row) for row in await connection.execute(statement)]


async def add_tasks(
    connection: AsyncConnection,
    assets: Iterable[tuple[UUID, AssetType]],
    moment: datetime,
    priority: int = 0,
    *,
    requested_at: datetime | None = None,
) -> None:
    """Insert the tasks of assets that have none, in the transaction that inserts the assets. Derivatives made before `requested_at` (None:
    `moment`) are made again."""
    rows = [
        {
            "id": uuid4(),
            "asset_id": asset_id,
            "kind": TASK_KINDS[type_],
            "priority": priority,
            "not_before": moment,
            "requested_at": requested_at or moment,
            "created_at": moment,
            "updated_at": moment,
            **_INITIAL_VALUES,
        }
        for asset_id, type_ in assets
        if type_ in TASK_KINDS
    ]
    if len(rows) == 1:
        await connection.execute(_INSERT_ONE, rows[0])
    else:
        await insert_rows(connection, _task, rows)


async def request_reading(connection: AsyncConnection, asset_ids: Iterable[UUID]) -> None:
    """Request the metadata of these assets to be read again, in the transaction that changes a sidecar. Derivatives stay.
    Each task is replaced by another one: a run that is under way may have read the former sidecar, and finds at its end
    that its task is gone."""
    moment = now()
    for batch in iterate_batches(asset_ids):
        former = delete(_task).where(_task.c.asset_id.in_(batch)).returning(_task)
        tasks = [_task_from_row(row) for row in await connection.execute(former)]
        again: dict[str, Any] = {**_INITIAL_VALUES, "not_before": moment, "updated_at": moment}
        rows = [
            {
                "id": uuid4(),
                "asset_id": task.asset_id,
                "kind": task.kind,
                "priority": REPEATED_PRIORITY,
                "requested_at": task.requested_at,
                "created_at": task.created_at,
                **again,
            }
            for task in tasks
        ]
        if rows:
            await connection.execute(insert(_task), rows)


async def _request(
    connection: AsyncConnection, condition: ColumnElement[bool], *, remake: bool
) -> tuple[list[Task], UUID | None]:
    made = select(func.count()).where(_derivative.c.asset_id == _asset.c.id, _derivative.c.kind.in_(_REQUIRED_KINDS))
    page = (
        select(_asset.c.id, _asset.c.type, _task.c.state, _task.c.not_before, made.scalar_subquery())
        .outerjoin(_task, _task.c.asset_id == _asset.c.id)
        .where(condition)
        .order_by(_asset.c.id)
        .limit(_REQUEST_BATCH)
    )
    rows = (await connection.execute(page)).all()
    moment = now()
    new = [(asset_id, type_) for asset_id, type_, state, *_ in rows if state is None]
    again = [
        asset_id
        for asset_id, _, state, due, made in rows
        if _is_requested_again(state, made, remake=remake, waits=state is TaskState.PENDING and due > moment)
    ]
    await add_tasks(connection, new, moment, REPEATED_PRIORITY)
    values: dict[str, Any] = {
        **_INITIAL_VALUES,
        "priority": REPEATED_PRIORITY,
        "not_before": moment,
        "updated_at": moment,
    }
    if remake:
        values["requested_at"] = moment
    not_running = _task.c.state != TaskState.RUNNING
    requested: list[Task] = []
    for batch in iterate_batches(again):
        changed = update(_task).where(_task.c.asset_id.in_(batch), not_running).values(values).returning(_task)
        requested += map(_task_from_row, await connection.execute(changed))
    for batch in iterate_batches(asset_id for asset_id, _ in new):
        requested += map(_task_from_row, await connection.execute(select(_task).where(_task.c.asset_id.in_(batch))))
    return requested, rows[-1].id if len(rows) == _REQUEST_BATCH else None


def _is_requested_again(state: TaskState | None, made: int, *, remake: bool, waits: bool) -> bool:
    """A running task is not requested twice; a task that waits for a retry becomes due now."""
    if state in (None, TaskState.RUNNING):
        return False
    return remake or waits or state is TaskState.FAILED or (state is TaskState.DONE and made < len(_REQUIRED_KINDS))


def _task_from_row(row: Row[Any]) -> Task:
    return Task(*row)
