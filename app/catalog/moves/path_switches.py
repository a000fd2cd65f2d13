"""The steps of a move that switch paths or mark objects for deletion. Each is one transaction for a batch of items, and
each locks and checks every row again.

A path changes only `WHERE id AND path = <old> AND state = 'live'`. If the file was deleted meanwhile, its item is *dropped*, and
its twin is marked for deletion. An item whose rows differ from the ledger is not touched and is reported as changed.
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
"""The holder of the ledger's lock may be writing copies of these items, also of planned ones: it begins a copy without
reading the file's row again."""

_file = tables.file
_item = tables.migration_item
_migration = tables.migration
_user = tables.user


@dataclass(frozen=True, slots=True)
class SwitchOutcome:
    """File ids. `done`: the step was carried out. `dropped`: the file was deleted meanwhile. `changed`: the rows differ
    from the ledger."""

    done: frozenset[UUID]
    dropped: frozenset[UUID]
    changed: frozenset[UUID]


class SwitchDecision(Enum):
    """The decision about an item whose rows are locked."""

    READY = auto()
    FILE_DELETED = auto()
    CHANGED = auto()


@dataclass(frozen=True, slots=True)
class FileLocation:
    """State and path of a row of `file` at this moment."""

    state: FileState
    path: str


def decide_switch(
    file: FileLocation | None, twin: FileLocation | None, file_path: str, twin_path: str
) -> SwitchDecision:
    """Compares the two rows with the paths where the ledger expects them."""
    if file is None or file.state is not FileState.LIVE:
        return SwitchDecision.FILE_DELETED
    as_expected = file.path == file_path and twin == FileLocation(FileState.WRITING, twin_path)
    return SwitchDecision.READY if as_expected else SwitchDecision.CHANGED


class PathSwitches:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def switch(self, migration_id: UUID, file_ids: Collection[UUID]) -> SwitchOutcome:
        """Switch verified files to their copies; the twins then account for the sources, which stay."""
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(
                connection, migration_id, file_ids, {MoveState.VERIFIED}, file_at_target=False
            )
            await batch.switch_paths()
            await batch.record_state(MoveState.SWITCHED, switched_at=now())
            return await batch.finish()

    async def mark_sources_for_deletion(self, migration_id: UUID, file_ids: Collection[UUID]) -> SwitchOutcome:
        """Mark the sources of switched files for deletion. The caller has just checked the targets."""
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(
                connection, migration_id, file_ids, {MoveState.SWITCHED}, file_at_target=True
            )
            await batch.mark_twins_for_deletion(_NO_GRACE)
            await batch.record_state(MoveState.REMOVED)
            return await batch.finish()

    async def switch_back(self, migration_id: UUID, file_ids: Collection[UUID], *, grace: timedelta) -> SwitchOutcome:
        """Switch files back to their sources, which the caller has just checked; the copies may be deleted after
        `grace`."""
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(
                connection, migration_id, file_ids, {MoveState.SWITCHED}, file_at_target=True
            )
            await batch.switch_paths()
            await batch.mark_twins_for_deletion(grace)
            await batch.record_state(MoveState.REVERTED, switched_at=None)
            return await batch.finish()

    async def cancel_moves(self, migration_id: UUID, file_ids: Collection[UUID]) -> SwitchOutcome:
        """Cancel moves that were not switched: the files stay at their sources, and copies are marked for deletion. If
        no copy was begun, an object at the target is not ours and stays."""
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(connection, migration_id, file_ids, UNSWITCHED_STATES, file_at_target=False)
            await batch.mark_twins_for_deletion(_NO_GRACE)
            await batch.record_state(MoveState.REVERTED)
            return await batch.finish()

    async def drop_deleted_items(
        self, migration_id: UUID, file_ids: Collection[UUID], states: Collection[MoveState] = OPEN_STATES
    ) -> frozenset[UUID]:
        """Drop the items whose files were deleted meanwhile, and mark their twins for deletion. Other items are not
        changed. Returns the dropped file ids."""
        if not file_ids:
            return frozenset()
        async with self._database.write() as connection:
            batch = await _LockedItems.lock(connection, migration_id, file_ids, states, file_at_target=False)
            return (await batch.finish()).dropped

    async def drop_deleted_for_sweeper(self, file_ids: Collection[UUID]) -> frozenset[UUID]:
        """As `drop_deleted_items`, for a sweeper that is about to delete rows. Returns the files whose rows must stay
        until the next sweep: another process may be writing their copies at this moment."""
        open_items = (
            select(_item.c.migration_id, _item.c.file_id, _item.c.state)
            .join(_migration, _migration.c.id == _item.c.migration_id)
            .where(_migration.c.finished_at.is_(None), _item.c.file_id.in_(file_ids), _item.c.state.in_(OPEN_STATES))
        )
        async with self._database.read() as connection:
            items = (await connection.execute(open_items)).all()
        maybe_written = {item.file_id for item in items if item.state in _COPY_UNFINISHED}
        for migration_id in {item.migration_id for item in items}:
            not_written = {item.file_id for item in items if item.migration_id == migration_id} - maybe_written
            await self.drop_deleted_items(migration_id, not_written, _COPY_FINISHED)
            if maybe_written:
                async with try_exclusive(self._database, MIGRATION_LOCK) as has_lock:
                    if has_lock:
                        await self.drop_deleted_items(migration_id, maybe_written)
                        maybe_written = set[UUID]()
        return frozenset(maybe_written)


class _LockedItems:
    """Items and the rows of their files, locked in this transaction, with a decision about each item."""

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
        # Lock owners first, as all code that changes several files of an owner does, to prevent deadlocks.
        owners = select(_user.c.id).where(_user.c.id.in_({item.owner_id for item in items}))
        await connection.execute(owners.order_by(_user.c.id).with_for_update())
        ids = {item.file_id for item in items} | {item.twin_id for item in items}
        statement = select(_file.c.id, _file.c.state, _file.c.path, _file.c.is_foreign).where(
            _file.c.id.in_(ids), _file.c.state != FileState.DOOMED
        )
        rows = (await connection.execute(statement.order_by(_file.c.id).with_for_update())).all()
        foreign_paths = {row.id: row.path for row in rows if row.is_foreign}
        locations = {row.id: FileLocation(row.state, row.path) for row in rows}
        decisions: dict[MoveItem, SwitchDecision] = {}
        for item in items:
            # The other program may have moved a foreign file since it was planned: its path is never switched.
            file_path, twin_path = foreign_paths.get(item.file_id, item.source_path), item.target_path
            if file_at_target:
                file_path, twin_path = twin_path, file_path
            decisions[item] = decide_switch(
                locations.get(item.file_id), locations.get(item.twin_id), file_path, twin_path
            )
        return cls(connection, migration_id, decisions)

    async def switch_paths(self) -> None:
        """Exchange the paths of each file and its twin."""
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
        temporary_path = literal(_TEMPORARY_PREFIX) + cast(_file.c.id, String)
        await self._update_all(twins, _file.c.state == FileState.WRITING, temporary_path)
        unchanged = (_file.c.state == FileState.LIVE) & (_file.c.path == old_path) & ~_file.c.is_foreign
        await self._update_all(files, unchanged, select(new).where(mine, is_file).scalar_subquery())
        await self._update_all(twins, literal(True), select(old).where(mine, is_twin).scalar_subquery())

    async def mark_twins_for_deletion(self, grace: timedelta) -> None:
        """Mark the twins of the items that are ready. A twin that may be half-copied gets `LATE_WRITE_GRACE`."""
        await self._mark_for_deletion(self._with_decision(SwitchDecision.READY), grace)

    async def record_state(self, state: MoveState, **values: Any) -> None:
        await self._record_state(self._with_decision(SwitchDecision.READY), state, **values)

    async def finish(self) -> SwitchOutcome:
        """Drop the items whose files were deleted, and return the outcome of the batch."""
        deleted = self._with_decision(SwitchDecision.FILE_DELETED)
        await self._mark_for_deletion(deleted, _NO_GRACE)
        await self._record_state(deleted, MoveState.DROPPED)
        return SwitchOutcome(
            *(
                _file_ids(self._with_decision(decision))
                for decision in (SwitchDecision.READY, SwitchDecision.FILE_DELETED, SwitchDecision.CHANGED)
            )
        )

    def _with_decision(self, decision: SwitchDecision) -> list[MoveItem]:
        return [item for item, decided in self._decisions.items() if decided is decision]

    async def _mark_for_deletion(self, items: Iterable[MoveItem], grace: timedelta) -> None:
        uncopied: list[UUID] = []
        by_grace: dict[timedelta, list[UUID]] = {}
        for item in items:
            if item.state is MoveState.PLANNED:
                uncopied.append(item.twin_id)
                continue
            item_grace = LATE_WRITE_GRACE if item.state is MoveState.COPYING else grace
            by_grace.setdefault(item_grace, []).append(item.twin_id)
        for item_grace, twins in by_grace.items():
            mine = _file.c.id.in_(twins) & (_file.c.state == FileState.WRITING)
            values = {"state": FileState.DOOMED, "not_before": now() + item_grace}
            await self._connection.execute(update(_file).where(mine).values(values))
        if uncopied:  # no object of ours is there, so the sweeper must not delete it
            mine = _file.c.id.in_(uncopied) & (_file.c.state == FileState.WRITING)
            await self._connection.execute(delete(_file).where(mine))

    async def _record_state(self, items: Iterable[MoveItem], state: MoveState, **values: Any) -> None:
        mine = (_item.c.migration_id == self._migration_id) & _item.c.file_id.in_(_file_ids(items))
        await self._connection.execute(update(_item).where(mine).values(state=state, problem=None, **values))

    async def _update_all(self, ids: list[UUID], condition: Any, path: Any) -> None:
        changed = await self._connection.execute(update(_file).where(_file.c.id.in_(ids), condition).values(path=path))
        if changed.rowcount != len(ids):
            raise CatalogUnavailable("locked rows have changed")  # never observed; rolls back the transaction


def _file_ids(items: Iterable[MoveItem]) -> frozenset[UUID]:
    return frozenset(item.file_id for item in items)
