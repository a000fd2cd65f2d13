"""The tasks of one kind as a queue: paused, resumed and emptied by administrators. A paused queue starts no task, in any
process; tasks that are running end."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from sqlalchemy import ColumnElement, String, and_, delete, exists, insert, literal, select, type_coerce

from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import Task, TaskKind, TaskState

_asset = tables.asset
_installation = tables.installation
_task = tables.task

PAUSED_FLAG = "paused:"
"""A flag of the installation whose name is this and the kind of task: its queue is paused."""


def where_not_paused() -> ColumnElement[bool]:
    """Tasks of queues that are not paused."""
    flag = literal(PAUSED_FLAG, String) + type_coerce(_task.c.kind, String)
    return ~exists().where(_installation.c.name == flag)


class TaskQueueRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def pause(self, kind: TaskKind) -> None:
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    insert(_installation).values(name=PAUSED_FLAG + kind.value, value=now().isoformat())
                )
        except ConstraintViolation:
            return  # it is paused already

    async def resume(self, kind: TaskKind) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(_installation).where(_installation.c.name == PAUSED_FLAG + kind.value))

    async def list_paused(self) -> frozenset[TaskKind]:
        flags = select(_installation.c.name).where(_installation.c.name.in_([PAUSED_FLAG + kind for kind in TaskKind]))
        async with self._database.read() as connection:
            found = (await connection.execute(flags)).scalars()
            return frozenset(TaskKind(name.removeprefix(PAUSED_FLAG)) for name in found)

    async def remove_tasks(self, kind: TaskKind, states: Collection[TaskState]) -> int:
        """Remove the tasks of this kind in these states; `TaskRepository.request` finds their assets again. Returns how
        many."""
        unwanted = (_task.c.kind == kind) & _task.c.state.in_(list(states))
        async with self._database.write() as connection:
            return (await connection.execute(delete(_task).where(unwanted))).rowcount

    async def list_due(self, kind: TaskKind, limit: int) -> list[Task]:
        """Pending tasks that may begin now, the most urgent first."""
        due = and_(_task.c.kind == kind, _task.c.state == TaskState.PENDING, _task.c.not_before <= now())
        return await self._list(due, limit)

    async def list_tasks(self, kind: TaskKind, states: Collection[TaskState], limit: int) -> list[Task]:
        """Tasks in these states, the most urgent first."""
        wanted = (_task.c.kind == kind) & _task.c.state.in_(list(states))
        return await self._list(wanted, limit)

    async def get_file_names(self, tasks: Iterable[Task]) -> dict[UUID, str]:
        """By asset id: the name of the file that each task works on."""
        names: dict[UUID, str] = {}
        async with self._database.read() as connection:
            for batch in iterate_batches(task.asset_id for task in tasks):
                statement = select(_asset.c.id, _asset.c.original_file_name).where(_asset.c.id.in_(batch))
                names.update((asset_id, name) for asset_id, name in await connection.execute(statement))
        return names

    async def _list(self, condition: ColumnElement[bool], limit: int) -> list[Task]:
        statement = select(_task).where(condition).order_by(_task.c.priority, _task.c.not_before).limit(limit)
        async with self._database.read() as connection:
            return [Task(*row) for row in await connection.execute(statement)]
