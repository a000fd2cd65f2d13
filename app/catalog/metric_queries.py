"""Figures about the installation for `/metrics`. Each is one statement that reads from an index, and counts up to a bound."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, ScalarSelect, Select, func, literal, select, union_all

from app.catalog.database.engine import Database, now
from app.catalog.schema import tables
from app.catalog.schema.records import FileState, TaskKind, TaskState
from app.catalog.task_queues import where_not_paused

MOST_COUNTED = 100_000
"""A larger number is reported as this one: a count takes time for each row."""

_file = tables.file
_task = tables.task


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Tasks of one kind. `delayed`: pending ones that are not due yet. `overdue`: for how long the first one has been due, 0 if none is."""

    pending: int
    delayed: int
    running: int
    failed: int
    overdue: timedelta


@dataclass(frozen=True, slots=True)
class SweepBacklog:
    """`files` that the sweeper may delete, the first of them for the time `overdue`."""

    files: int
    overdue: timedelta


class MetricQueries:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_queues(self) -> dict[TaskKind, QueueDepth]:
        moment = now()
        due, late = _task.c.not_before <= moment, _task.c.not_before > moment
        conditions: dict[str, ColumnElement[bool]] = {
            "pending": (_task.c.state == TaskState.PENDING) & due,
            "delayed": (_task.c.state == TaskState.PENDING) & late,
            "running": _task.c.state == TaskState.RUNNING,
            "failed": _task.c.state == TaskState.FAILED,
        }
        counts = [
            select(
                literal(kind.value).label("kind"),
                literal(name).label("name"),
                _count((_task.c.kind == kind) & condition),
            )
            for kind in TaskKind
            for name, condition in conditions.items()
        ]
        heads = {kind: _select_head(kind, moment) for kind in TaskKind}
        async with self._database.read() as connection:
            found = {(kind, name): count for kind, name, count in await connection.execute(union_all(*counts))}
            oldest: dict[TaskKind, datetime | None] = {
                kind: (await connection.execute(head)).scalar_one_or_none() for kind, head in heads.items()
            }
        return {
            kind: QueueDepth(
                **{name: found[kind.value, name] for name in conditions}, overdue=_since(oldest[kind], moment)
            )
            for kind in TaskKind
        }

    async def read_sweep_backlog(self) -> SweepBacklog:
        moment = now()
        due = (_file.c.state == FileState.DOOMED) & (_file.c.not_before <= moment)
        bounded = select(literal(1)).where(due).limit(MOST_COUNTED).subquery()
        first = select(func.min(_file.c.not_before)).where(_file.c.state == FileState.DOOMED)
        async with self._database.read() as connection:
            count = (await connection.execute(select(func.count()).select_from(bounded))).scalar_one()
            oldest = (await connection.execute(first)).scalar_one()
        return SweepBacklog(count, _since(oldest, moment))


def _count(condition: ColumnElement[bool]) -> ScalarSelect[int]:
    bounded = select(literal(1)).where(condition).limit(MOST_COUNTED).subquery()
    return select(func.count()).select_from(bounded).scalar_subquery()


def _select_head(kind: TaskKind, moment: datetime) -> Select[datetime]:
    """When the task that is to be done next became due; none if the queue is paused."""
    pending = (_task.c.kind == kind) & (_task.c.state == TaskState.PENDING) & (_task.c.not_before <= moment)
    return (
        select(_task.c.not_before)
        .where(pending, where_not_paused())
        .order_by(_task.c.priority, _task.c.not_before)
        .limit(1)
    )


def _since(moment: datetime | None, now_: datetime) -> timedelta:
    return timedelta(0) if moment is None else max(now_ - moment, timedelta(0))
