"""The ledger of moves between disk and S3: the files that are to be moved, the state of each, and the problem that
stops it. It copies no bytes; transactions that switch paths are in `path_switches`.

A file that is moved has two objects for a while, and each has its own row of `file`: the file's own row, and its
*twin*, to which nothing refers. A twin is `writing` with a lease that does not expire, so no sweeper touches it until
the ledger marks it for deletion. Which row accounts for which object:

| item | the file's own row | the twin |
|---|---|---|
| `planned` | `live`, at the source | `writing`, at the target: no object of ours |
| `copying` | `live`, at the source | `writing`, at the target: no object, part of a copy, or all of it |
| `copied`, `verified` | `live`, at the source | `writing`, at the target: the copy |
| `switched` | `live`, at the target | `writing`, at the source: still whole |
| `kept` | `live`, foreign, at the source for good | `writing`, at the target: the copy (`file.copy_path`) |
| `removed` | `live`, at the target | `doomed`, at the source, until it is swept |
| `reverted` | `live`, at the source | `doomed`, at the target, until it is swept |
| `dropped` | `doomed` or gone: deleted meanwhile | `doomed`, at the other path, until it is swept |

The move of a file is a few transactions, and a process that dies between two of them leaves the rows in one of these
states.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, delete, func, insert, select, update

from app.catalog.database.engine import Database, now
from app.catalog.database.process_locks import LockCheck, try_lock
from app.catalog.errors import MigrationBusy
from app.catalog.files import file_from_row
from app.catalog.schema import tables
from app.catalog.schema.move_records import (
    CopyOutcome,
    MoveCandidate,
    MoveCounts,
    MoveFilters,
    MoveItem,
    MoveItemWithFile,
    MoveState,
    StorageMigration,
)
from app.catalog.schema.records import File, FileKind, FileState
from app.config import StorageEngine

TWIN_LEASE_END = datetime(9000, 1, 1, tzinfo=UTC)
"""The end of a twin's lease: the ledger ends it, never the clock."""

UNSWITCHED_STATES = (MoveState.PLANNED, MoveState.COPYING, MoveState.COPIED, MoveState.VERIFIED)
"""The states in which the file's own row is at the source."""

OPEN_STATES = (*UNSWITCHED_STATES, MoveState.SWITCHED)
"""A migration is finished when none of its items is in one of these states."""

NO_FILTERS = MoveFilters()
MIGRATION_LOCK = "migrate"
_LOCK_ATTEMPTS = 5
_LOCK_RETRY_SECONDS = 0.1
"""Retries of the lock: a sweeper holds it for a moment (`PathSwitches.drop_deleted_for_sweeper`)."""


_file = tables.file
_migration = tables.migration
_item = tables.migration_item
_ITEM_COLUMNS = len(_item.c)


class MoveLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock_ledger(self) -> AsyncIterator[LockCheck]:
        """Hold the lock of the ledger: no other process copies or changes the ledger meanwhile. Raises `MigrationBusy`
        when another process holds it."""
        for _ in range(_LOCK_ATTEMPTS):
            async with try_lock(self._database, MIGRATION_LOCK) as lock:
                if lock is not None:
                    yield lock.check_held
                    return
            await asyncio.sleep(_LOCK_RETRY_SECONDS)
        raise MigrationBusy

    async def get_unfinished(self) -> StorageMigration | None:
        """The migration that has open items; there is at most one."""
        return await self._get_migration(_migration.c.finished_at.is_(None))

    async def get_latest(self) -> StorageMigration | None:
        return await self._get_migration()

    async def get(self, migration_id: UUID) -> StorageMigration | None:
        return await self._get_migration(_migration.c.id == migration_id)

    async def begin_migration(self, target: StorageEngine) -> StorageMigration:
        """Insert a migration. The caller holds the lock of the ledger, and no migration is unfinished."""
        begun = StorageMigration(uuid4(), target, now(), None)
        async with self._database.write() as connection:
            await connection.execute(
                insert(_migration).values(id=begun.id, target=target, created_at=begun.created_at, finished_at=None)
            )
        return begun

    async def finish_migration(self, migration_id: UUID) -> bool:
        """Mark the migration as finished. Returns False while it has open items."""
        open_items = select(_item.c.file_id).where(_item.c.migration_id == migration_id, _item.c.state.in_(OPEN_STATES))
        is_finished = _migration.c.id == migration_id, _migration.c.finished_at.is_(None), ~open_items.exists()
        async with self._database.write() as connection:
            return (
                await connection.execute(update(_migration).where(*is_finished).values(finished_at=now()))
            ).rowcount == 1

    async def get_candidates(
        self,
        path_prefix: str,
        migration_id: UUID | None,
        *,
        after: UUID | None,
        limit: int,
        filters: MoveFilters = NO_FILTERS,
        only_unplanned: bool = False,
    ) -> list[MoveCandidate]:
        """Live managed files whose paths begin with `path_prefix`, by id, those after `after`. With `only_unplanned`,
        only files without an open item; a file whose move was rolled back may be planned again. Files of external
        libraries and foreign files are never included, wherever they are: they may not be moved or removed."""
        has_item = (
            (_item.c.file_id == _file.c.id) & (_item.c.migration_id == migration_id) & _item.c.state.in_(OPEN_STATES)
        )
        is_below = func.substr(_file.c.path, 1, len(path_prefix)) == path_prefix
        where = [_file.c.state == FileState.LIVE, _file.c.kind != FileKind.EXTERNAL, is_below, ~_file.c.is_foreign]
        if after is not None:
            where.append(_file.c.id > after)
        if only_unplanned:
            where.append(_item.c.file_id.is_(None))
        where += _where_filters(_file.c.owner_id, _file.c.kind, filters)
        statement = select(_item.c.state, _file).select_from(_file.outerjoin(_item, has_item)).where(*where)
        async with self._database.read() as connection:
            rows = await connection.execute(statement.order_by(_file.c.id).limit(limit))
            return [MoveCandidate(file_from_row(tuple(row)[1:]), row[0]) for row in rows]

    async def get_copy_candidates(
        self, migration_id: UUID | None, *, after: UUID | None, limit: int, filters: MoveFilters = NO_FILTERS
    ) -> list[File]:
        """Foreign files with a known SHA-1 that have neither a copy nor an open item, by id, those after `after`."""
        has_item = select(_item.c.file_id).where(
            _item.c.file_id == _file.c.id, _item.c.migration_id == migration_id, _item.c.state.in_(OPEN_STATES)
        )
        where = [_file.c.is_foreign, _file.c.copy_path.is_(None), _file.c.sha1.is_not(None), ~has_item.exists()]
        return await self._get_files(where, after, limit, filters)

    async def get_unhashed_foreign_files(
        self, *, after: UUID | None, limit: int, filters: MoveFilters = NO_FILTERS
    ) -> list[File]:
        """Foreign files without a SHA-1, by id, those after `after`."""
        return await self._get_files([_file.c.is_foreign, _file.c.sha1.is_(None)], after, limit, filters)

    async def measure_uncopied(self, filters: MoveFilters = NO_FILTERS) -> dict[FileKind, tuple[int, int]]:
        """Foreign files without a copy: their number and bytes, by kind."""
        where = [_file.c.is_foreign, _file.c.copy_path.is_(None)]
        where += _where_filters(_file.c.owner_id, _file.c.kind, filters)
        measured = select(_file.c.kind, func.count(), func.coalesce(func.sum(_file.c.size), 0)).where(*where)
        async with self._database.read() as connection:
            rows = await connection.execute(measured.group_by(_file.c.kind))
            return {kind: (files, int(size)) for kind, files, size in rows}

    async def _get_files(
        self, where: list[ColumnElement[bool]], after: UUID | None, limit: int, filters: MoveFilters
    ) -> list[File]:
        where = where + _where_filters(_file.c.owner_id, _file.c.kind, filters)
        if after is not None:
            where.append(_file.c.id > after)
        statement = select(_file).where(*where).order_by(_file.c.id).limit(limit)
        async with self._database.read() as connection:
            return [file_from_row(row) for row in await connection.execute(statement)]

    async def plan_moves(self, migration_id: UUID, targets: Sequence[tuple[File, str]]) -> set[str]:
        """Insert an item and a twin for each file and its target path; an item that was rolled back begins again.
        Returns the target paths that another row has already; the files of these are left out."""
        paths = [path for _, path in targets]
        async with self._database.write() as connection:
            taken = set((await connection.execute(select(_file.c.path).where(_file.c.path.in_(paths)))).scalars())
            planned = [(file, path, uuid4()) for file, path in targets if path not in taken]
            if planned:
                closed = _item.c.file_id.in_([file.id for file, _, _ in planned]) & _item.c.state.not_in(OPEN_STATES)
                await connection.execute(delete(_item).where(_item.c.migration_id == migration_id, closed))
                await connection.execute(insert(_file), [_twin_values(*each) for each in planned])
                await connection.execute(insert(_item), [_item_values(migration_id, *each) for each in planned])
        return taken

    async def get_moves(
        self,
        migration_id: UUID,
        states: Collection[MoveState],
        *,
        after: UUID | None = None,
        limit: int,
        filters: MoveFilters = NO_FILTERS,
        only_with_problem: bool = False,
    ) -> list[MoveItemWithFile]:
        """Items in these states with their files, by file id, those after `after`; on request only those with a
        problem."""
        where = [_item.c.migration_id == migration_id, _item.c.state.in_(states)]
        where += _where_filters(_item.c.owner_id, _item.c.kind, filters)
        if after is not None:
            where.append(_item.c.file_id > after)
        if only_with_problem:
            where.append(_item.c.problem.is_not(None))
        joined = _item.outerjoin(_file, _file.c.id == _item.c.file_id)
        statement = select(_item, _file).select_from(joined).where(*where).order_by(_item.c.file_id).limit(limit)
        async with self._database.read() as connection:
            return [_move_from_row(tuple(row)) for row in await connection.execute(statement)]

    async def begin_copying(self, migration_id: UUID, file_ids: Collection[UUID]) -> None:
        """Record that copies begin, before their first byte: from then on an object at the target may be our copy."""
        if not file_ids:
            return
        mine = (_item.c.migration_id == migration_id) & _item.c.file_id.in_(file_ids)
        begun = update(_item).where(mine, _item.c.state == MoveState.PLANNED)
        async with self._database.write() as connection:
            await connection.execute(begun.values(state=MoveState.COPYING, problem=None))

    async def record_outcomes(self, migration_id: UUID, outcomes: Iterable[CopyOutcome]) -> None:
        """Record the outcomes of copying. Items that were switched, removed, reverted or dropped meanwhile are not
        changed."""
        is_unswitched = _item.c.state.in_(UNSWITCHED_STATES)
        ordered = sorted(outcomes, key=_outcome_key)
        if not ordered:
            return
        async with self._database.write() as connection:
            for _, group in groupby(ordered, key=_outcome_key):
                same = list(group)
                ids = [outcome.file_id for outcome in same]
                mine = (_item.c.migration_id == migration_id) & _item.c.file_id.in_(ids) & is_unswitched
                values = {"state": same[0].state, "problem": same[0].problem}
                await connection.execute(update(_item).where(mine).values(values))

    async def record_problems(self, migration_id: UUID, problems: Iterable[tuple[UUID, str | None]]) -> None:
        """Record the problems of items in any state; None clears a problem. Dropped items are not changed."""
        listed = list(problems)
        if not listed:
            return
        async with self._database.write() as connection:
            for file_id, problem in listed:
                mine = (_item.c.migration_id == migration_id) & (_item.c.file_id == file_id)
                not_dropped = _item.c.state != MoveState.DROPPED
                await connection.execute(update(_item).where(mine, not_dropped).values(problem=problem))

    async def count_by_state(self, migration_id: UUID, filters: MoveFilters = NO_FILTERS) -> list[MoveCounts]:
        statement = (
            select(_item.c.state, func.count(), func.sum(_item.c.size), func.count(_item.c.problem))
            .where(_item.c.migration_id == migration_id, *_where_filters(_item.c.owner_id, _item.c.kind, filters))
            .group_by(_item.c.state)
        )
        async with self._database.read() as connection:
            rows = [MoveCounts(row[0], row[1], int(row[2]), row[3]) for row in await connection.execute(statement)]
        order = list(MoveState)
        return sorted(rows, key=lambda tally: order.index(tally.state))

    async def count_unswept(self, migration_id: UUID) -> tuple[int, int]:
        """The number of objects marked for deletion that the sweeper has not yet deleted, and their bytes."""
        twins = _item.join(_file, _file.c.id == _item.c.twin_id)
        counted = select(func.count(), func.coalesce(func.sum(_item.c.size), 0)).select_from(twins)
        mine = (_item.c.migration_id == migration_id) & _item.c.state.in_([MoveState.REMOVED, MoveState.DROPPED])
        async with self._database.read() as connection:
            row = (await connection.execute(counted.where(mine))).one()
        return row[0], int(row[1])

    async def get_latest_switch_time(self, migration_id: UUID, filters: MoveFilters = NO_FILTERS) -> datetime | None:
        """When an item was last switched, among the items that are `switched` now."""
        where = [_item.c.migration_id == migration_id, _item.c.state == MoveState.SWITCHED]
        where += _where_filters(_item.c.owner_id, _item.c.kind, filters)
        async with self._database.read() as connection:
            return (await connection.execute(select(func.max(_item.c.switched_at)).where(*where))).scalar_one()

    async def _get_migration(self, *where: ColumnElement[bool]) -> StorageMigration | None:
        newest = select(_migration).where(*where).order_by(_migration.c.created_at.desc()).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(newest)).one_or_none()
        return None if row is None else StorageMigration(*row)


def item_from_row(row: Sequence[Any]) -> MoveItem:
    """Takes the columns of `migration_item` in their order."""
    return MoveItem(*row)


def _move_from_row(row: Sequence[Any]) -> MoveItemWithFile:
    file = row[_ITEM_COLUMNS:]
    return MoveItemWithFile(item_from_row(row[:_ITEM_COLUMNS]), None if file[0] is None else file_from_row(tuple(file)))


def _where_filters(
    owner: ColumnElement[UUID], kind: ColumnElement[Any], filters: MoveFilters
) -> list[ColumnElement[bool]]:
    chosen: list[ColumnElement[bool]] = []
    if filters.owner_id is not None:
        chosen.append(owner == filters.owner_id)
    if filters.kinds is not None:
        chosen.append(and_(kind.in_(filters.kinds)))
    return chosen


def _twin_values(file: File, path: str, twin_id: UUID) -> dict[str, object]:
    return {
        "id": twin_id,
        "owner_id": file.owner_id,
        "kind": file.kind,
        "path": path,
        "state": FileState.WRITING,
        "size": None,
        "sha1": None,
        "crc32": None,
        "mime_type": file.mime_type,
        "created_at": now(),
        "not_before": TWIN_LEASE_END,
        "copy_of": file.id if file.is_foreign else None,
    }


def _item_values(migration_id: UUID, file: File, path: str, twin_id: UUID) -> dict[str, object]:
    return {
        "migration_id": migration_id,
        "file_id": file.id,
        "twin_id": twin_id,
        "owner_id": file.owner_id,
        "kind": file.kind,
        "source_path": file.path,
        "target_path": path,
        "size": file.size or 0,
        "state": MoveState.PLANNED,
        "problem": None,
        "switched_at": None,
    }


def _outcome_key(outcome: CopyOutcome) -> tuple[str, str]:
    return outcome.state, outcome.problem or ""
