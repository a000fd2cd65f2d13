"""The steps of a move that change paths or doom objects: each a transaction for a batch of items, and each asked again for every row.

A path changes only `WHERE id AND path = <old> AND state = 'live'`. A file that was deleted meanwhile is *dropped*: its twin is
doomed with it. One whose rows are not what the ledger says is left alone and reported as changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

from sqlalchemy import String, cast, delete, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import Database, now
from app.catalog.database.process_locks import try_exclusive
from app.catalog.errors import CatalogUnavailable
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.moves.move_ledger import MIGRATION_LOCK, OPEN_STATES, UNSWITCHED_STATES, item_from_row
from app.catalog.schema import tables
from app.catalog.schema.move_records import MoveItem, MoveState
from app.catalog.schema.records import FileState

_TEMPORARY_PREFIX = "moving:"
_NO_GRACE = timedelta(0)

_COPY_FINISHED = (MoveState.VERIFIED, MoveState.SWITCHED)
_COPY_UNFINISHED = (MoveState.PLANNED, MoveState.COPYING, MoveState.COPIED)
"""By whoever holds the lock of the move: one that is planned is begun without another look at its file."""

_file = tables.file
_item = tables.migration_item
_migration = tables.migration
_user = tables.user


@dataclass(frozen=True, slots=True)
class SwitchOutcome:
    """File ids: what was done as asked, whose file was deleted meanwhile, and what is not as the ledger says."""

    done: frozenset[UUID]
    dropped: frozenset[UUID]
    changed: frozenset[UUID]


class SwitchDecision(Enum):
    """What is to be done with an item whose rows are locked."""

    READY = auto()
    FILE_DELETED = auto()
    CHANGED = auto()


@dataclass(frozen=True, slots=True)
class FileLocation:
    """What a row of `file` says at this moment."""

    state: FileState
    path: str


def decide_switch(
    file: FileLocation | None, twin: FileLocation | None, file_path: str, twin_path: str
) -> SwitchDecision:
    """By where the two rows are, and where the ledger says that they are."""
    if file is None or file.state is not FileState.LIVE:
        return SwitchDecision.FILE_DELETED
    as_told = file.path == file_path and twin == FileLocation(FileState.WRITING, twin_path)
    return SwitchDecision.READY if as_told else SwitchDecision.CHANGED


class PathSwitches:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def switch(self, migration_id: UUID, file_ids: Collection[UUID]) -> SwitchOutcome:
        """Verified copies become the files; their sources stay, accounted for by the twins."""
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(
                connection, migration_id, file_ids, {MoveState.VERIFIED}, file_at_target=False
            )
            await batch.switch_paths()
            await batch.record_state(MoveState.SWITCHED, switched_at=now())
            return await batch.finish()

    async def mark_sources_for_deletion(self, migration_id: UUID, file_ids: Collection[UUID]) -> SwitchOutcome:
        """The files have been switched and their targets just checked: the sources may go."""
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(
                connection, migration_id, file_ids, {MoveState.SWITCHED}, file_at_target=True
            )
            await batch.mark_twins_for_deletion(_NO_GRACE)
            await batch.record_state(MoveState.REMOVED)
            return await batch.finish()

    async def switch_back(self, migration_id: UUID, file_ids: Collection[UUID], *, grace: timedelta) -> SwitchOutcome:
        """Switched files become their sources again, which were just checked; the copies may go after `grace`."""
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(
                connection, migration_id, file_ids, {MoveState.SWITCHED}, file_at_target=True
            )
            await batch.switch_paths()
            await batch.mark_twins_for_deletion(grace)
            await batch.record_state(MoveState.REVERTED, switched_at=None)
            return await batch.finish()

    async def cancel_moves(self, migration_id: UUID, file_ids: Collection[UUID]) -> SwitchOutcome:
        """Files that have not been switched stay where they are; the copies may go. Where none was begun, whatever lies at the target
        is not ours, and stays."""
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(connection, migration_id, file_ids, UNSWITCHED_STATES, file_at_target=False)
            await batch.mark_twins_for_deletion(_NO_GRACE)
            await batch.record_state(MoveState.REVERTED)
            return await batch.finish()

    async def drop_deleted_items(
        self, migration_id: UUID, file_ids: Collection[UUID], states: Collection[MoveState] = OPEN_STATES
    ) -> frozenset[UUID]:
        """Those that were deleted meanwhile: what is left at their other place may go. Does nothing to all others."""
        if not file_ids:
            return frozenset()
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(connection, migration_id, file_ids, states, file_at_target=False)
            return (await batch.finish()).dropped

    async def drop_deleted_for_sweeper(self, file_ids: Collection[UUID]) -> frozenset[UUID]:
        """As `drop_deleted_items`, for a sweeper that is about to forget files. Returns those whose rows must stay until it asks again: a run
        that is at work may be writing their copies at this moment."""
        open_items = (
            select(_item.c.migration_id, _item.c.file_id, _item.c.state)
            .join(_migration, _migration.c.id == _item.c.migration_id)
            .where(_migration.c.finished_at.is_(None), _item.c.file_id.in_(file_ids), _item.c.state.in_(OPEN_STATES))
        )
        async with self._database.read() as connection:
            found = (await connection.execute(open_items)).all()
        written = {item.file_id for item in found if item.state in _COPY_UNFINISHED}
        for migration_id in {item.migration_id for item in found}:
            at_rest = {item.file_id for item in found if item.migration_id == migration_id} - written
            await self.drop_deleted_items(migration_id, at_rest, _COPY_FINISHED)
            if written:
                async with try_exclusive(self._database, MIGRATION_LOCK) as nobody_writes:
                    if nobody_writes:
                        await self.drop_deleted_items(migration_id, written)
                        written = set[UUID]()
        return frozenset(written)


class _LockedItems:
    """Items with the rows of their files, locked in this transaction, and what is to become of each."""

    def __init__(
        self, connection: AsyncConnection, migration_id: UUID, decisions: dict[MoveItem, SwitchDecision]
    ) -> None:
        self._connection = connection
        self._migration_id = migration_id
        self._decisions = decisions

    @classmethod
    async def lock(
        cls,
        connection: AsyncConnection,
        migration_id: UUID,
        file_ids: Collection[UUID],
        states: Collection[MoveState],
        *,
        file_at_target: bool,
    ) -> _LockedItems:
        mine = (_item.c.migration_id == migration_id) & _item.c.file_id.in_(file_ids) & _item.c.state.in_(states)
        items = [item_from_row(tuple(row)) for row in await connection.execute(select(_item).where(mine))]
        # Owners first, as everybody who changes several files of one: so no two wait for each other in a circle.
        owners = select(_user.c.id).where(_user.c.id.in_({item.owner_id for item in items}))
        await connection.execute(owners.order_by(_user.c.id).with_for_update())
        ids = {item.file_id for item in items} | {item.twin_id for item in items}
        held = select(_file.c.id, _file.c.state, _file.c.path).where(
            _file.c.id.in_(ids), _file.c.state != FileState.DOOMED
        )
        rows = await connection.execute(held.order_by(_file.c.id).with_for_update())
        places = {row.id: FileLocation(row.state, row.path) for row in rows}
        fates: dict[MoveItem, SwitchDecision] = {}
        for item in items:
            here, there = item.source_path, item.target_path
            if file_at_target:
                here, there = there, here
            fates[item] = decide_switch(places.get(item.file_id), places.get(item.twin_id), here, there)
        return cls(connection, migration_id, fates)

    async def switch_paths(self) -> None:
        """Each file takes its twin's path, and the twin the file's."""
        ready = self._with_decision(SwitchDecision.READY)
        files, twins = [item.file_id for item in ready], [item.twin_id for item in ready]
        if not ready:
            return
        is_file, is_twin = _item.c.file_id == _file.c.id, _item.c.twin_id == _file.c.id
        mine = _item.c.migration_id == self._migration_id
        switched = ready[0].state is MoveState.SWITCHED
        old, new = (
            (_item.c.target_path, _item.c.source_path) if switched else (_item.c.source_path, _item.c.target_path)
        )
        old_path = select(old).where(mine, is_file).scalar_subquery()
        aside = literal(_TEMPORARY_PREFIX) + cast(_file.c.id, String)
        await self._update_all(twins, _file.c.state == FileState.WRITING, aside)
        unchanged = (_file.c.state == FileState.LIVE) & (_file.c.path == old_path)
        await self._update_all(files, unchanged, select(new).where(mine, is_file).scalar_subquery())
        await self._update_all(twins, literal(True), select(old).where(mine, is_twin).scalar_subquery())

    async def mark_twins_for_deletion(self, grace: timedelta) -> None:
        """The twins of what is ready. One that may be half-copied waits for late effects."""
        await self._mark_for_deletion(self._with_decision(SwitchDecision.READY), grace)

    async def record_state(self, state: MoveState, **values: Any) -> None:
        await self._record_state(self._with_decision(SwitchDecision.READY), state, **values)

    async def finish(self) -> SwitchOutcome:
        """Ends the batch: what is unwanted is dropped."""
        unwanted = self._with_decision(SwitchDecision.FILE_DELETED)
        await self._mark_for_deletion(unwanted, _NO_GRACE)
        await self._record_state(unwanted, MoveState.DROPPED)
        return SwitchOutcome(
            *(
                _file_ids(self._with_decision(fate))
                for fate in (SwitchDecision.READY, SwitchDecision.FILE_DELETED, SwitchDecision.CHANGED)
            )
        )

    def _with_decision(self, decision: SwitchDecision) -> list[MoveItem]:
        return [item for item, its in self._decisions.items() if its is decision]

    async def _mark_for_deletion(self, items: Iterable[MoveItem], grace: timedelta) -> None:
        foreign: list[UUID] = []
        by_grace: dict[timedelta, list[UUID]] = {}
        for item in items:
            if item.state is MoveState.PLANNED:
                foreign.append(item.twin_id)
                continue
            its = LATE_WRITE_GRACE if item.state is MoveState.COPYING else grace
            by_grace.setdefault(its, []).append(item.twin_id)
        for its, twins in by_grace.items():
            mine = _file.c.id.in_(twins) & (_file.c.state == FileState.WRITING)
            values = {"state": FileState.DOOMED, "not_before": now() + its}
            await self._connection.execute(update(_file).where(mine).values(values))
        if foreign:  # nothing of ours is there: no sweeper may be sent
            mine = _file.c.id.in_(foreign) & (_file.c.state == FileState.WRITING)
            await self._connection.execute(delete(_file).where(mine))

    async def _record_state(self, items: Iterable[MoveItem], state: MoveState, **values: Any) -> None:
        mine = (_item.c.migration_id == self._migration_id) & _item.c.file_id.in_(_file_ids(items))
        await self._connection.execute(update(_item).where(mine).values(state=state, problem=None, **values))

    async def _update_all(self, ids: list[UUID], condition: Any, path: Any) -> None:
        changed = await self._connection.execute(update(_file).where(_file.c.id.in_(ids), condition).values(path=path))
        if changed.rowcount != len(ids):
            raise CatalogUnavailable("rows that were locked have changed")  # never seen; all of it is rolled back


def _file_ids(items: Iterable[MoveItem]) -> frozenset[UUID]:
    return frozenset(item.file_id for item in items)
