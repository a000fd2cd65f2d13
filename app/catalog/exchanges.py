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

from app.catalog import tables
from app.catalog.engine import Database, now
from app.catalog.errors import CatalogUnavailable
from app.catalog.files import LATE_EFFECT_GRACE
from app.catalog.locks import exclusively
from app.catalog.move_records import MoveItem, MoveState
from app.catalog.moves import LOCK, OPEN, UNSWITCHED, item_of
from app.catalog.records import FileState

_ASIDE = "moving:"
_NO_GRACE = timedelta(0)

_AT_REST = (MoveState.VERIFIED, MoveState.SWITCHED)
_MAY_BE_WRITTEN = (MoveState.PLANNED, MoveState.COPYING, MoveState.COPIED)
"""By whoever holds the lock of the move: one that is planned is begun without another look at its file."""

_file = tables.file
_item = tables.migration_item
_migration = tables.migration
_user = tables.user


@dataclass(frozen=True, slots=True)
class Settled:
    """File ids: what was done as asked, whose file was deleted meanwhile, and what is not as the ledger says."""

    done: frozenset[UUID]
    dropped: frozenset[UUID]
    changed: frozenset[UUID]


class Fate(Enum):
    """What is to be done with an item whose rows are locked."""

    READY = auto()
    UNWANTED = auto()
    CHANGED = auto()


@dataclass(frozen=True, slots=True)
class Place:
    """What a row of `file` says at this moment."""

    state: FileState
    path: str


def decide(file: Place | None, twin: Place | None, file_path: str, twin_path: str) -> Fate:
    """By where the two rows are, and where the ledger says that they are."""
    if file is None or file.state is not FileState.LIVE:
        return Fate.UNWANTED
    as_told = file.path == file_path and twin == Place(FileState.WRITING, twin_path)
    return Fate.READY if as_told else Fate.CHANGED


class Exchanges:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def switch(self, migration_id: UUID, file_ids: Collection[UUID]) -> Settled:
        """Verified copies become the files; their sources stay, accounted for by the twins."""
        async with self._database.write() as connection:
            batch = await _Batch.lock(connection, migration_id, file_ids, {MoveState.VERIFIED}, file_at_target=False)
            await batch.exchange()
            await batch.note(MoveState.SWITCHED, switched_at=now())
            return await batch.settled()

    async def doom_sources(self, migration_id: UUID, file_ids: Collection[UUID]) -> Settled:
        """The files have been switched and their targets just checked: the sources may go."""
        async with self._database.write() as connection:
            batch = await _Batch.lock(connection, migration_id, file_ids, {MoveState.SWITCHED}, file_at_target=True)
            await batch.doom(_NO_GRACE)
            await batch.note(MoveState.REMOVED)
            return await batch.settled()

    async def switch_back(self, migration_id: UUID, file_ids: Collection[UUID], *, grace: timedelta) -> Settled:
        """Switched files become their sources again, which were just checked; the copies may go after `grace`."""
        async with self._database.write() as connection:
            batch = await _Batch.lock(connection, migration_id, file_ids, {MoveState.SWITCHED}, file_at_target=True)
            await batch.exchange()
            await batch.doom(grace)
            await batch.note(MoveState.REVERTED, switched_at=None)
            return await batch.settled()

    async def give_up(self, migration_id: UUID, file_ids: Collection[UUID]) -> Settled:
        """Files that have not been switched stay where they are; the copies may go. Where none was begun, whatever lies at the target
        is not ours, and stays."""
        async with self._database.write() as connection:
            batch = await _Batch.lock(connection, migration_id, file_ids, UNSWITCHED, file_at_target=False)
            await batch.doom(_NO_GRACE)
            await batch.note(MoveState.REVERTED)
            return await batch.settled()

    async def drop_unwanted(
        self, migration_id: UUID, file_ids: Collection[UUID], states: Collection[MoveState] = OPEN
    ) -> frozenset[UUID]:
        """Those that were deleted meanwhile: what is left at their other place may go. Does nothing to all others."""
        if not file_ids:
            return frozenset()
        async with self._database.write() as connection:
            batch = await _Batch.lock(connection, migration_id, file_ids, states, file_at_target=False)
            return (await batch.settled()).dropped

    async def drop_deleted(self, file_ids: Collection[UUID]) -> frozenset[UUID]:
        """As `drop_unwanted`, for a sweeper that is about to forget files. Returns those whose rows must stay until it asks again: a run
        that is at work may be writing their copies at this moment."""
        open_items = (
            select(_item.c.migration_id, _item.c.file_id, _item.c.state)
            .join(_migration, _migration.c.id == _item.c.migration_id)
            .where(_migration.c.finished_at.is_(None), _item.c.file_id.in_(file_ids), _item.c.state.in_(OPEN))
        )
        async with self._database.read() as connection:
            found = (await connection.execute(open_items)).all()
        written = {item.file_id for item in found if item.state in _MAY_BE_WRITTEN}
        for migration_id in {item.migration_id for item in found}:
            at_rest = {item.file_id for item in found if item.migration_id == migration_id} - written
            await self.drop_unwanted(migration_id, at_rest, _AT_REST)
            if written:
                async with exclusively(self._database, LOCK) as nobody_writes:
                    if nobody_writes:
                        await self.drop_unwanted(migration_id, written)
                        written = set[UUID]()
        return frozenset(written)


class _Batch:
    """Items with the rows of their files, locked in this transaction, and what is to become of each."""

    def __init__(self, connection: AsyncConnection, migration_id: UUID, fates: dict[MoveItem, Fate]) -> None:
        self._connection = connection
        self._migration_id = migration_id
        self._fates = fates

    @classmethod
    async def lock(
        cls,
        connection: AsyncConnection,
        migration_id: UUID,
        file_ids: Collection[UUID],
        states: Collection[MoveState],
        *,
        file_at_target: bool,
    ) -> _Batch:
        mine = (_item.c.migration_id == migration_id) & _item.c.file_id.in_(file_ids) & _item.c.state.in_(states)
        items = [item_of(tuple(row)) for row in await connection.execute(select(_item).where(mine))]
        # Owners first, as everybody who changes several files of one: so no two wait for each other in a circle.
        owners = select(_user.c.id).where(_user.c.id.in_({item.owner_id for item in items}))
        await connection.execute(owners.order_by(_user.c.id).with_for_update())
        ids = {item.file_id for item in items} | {item.twin_id for item in items}
        held = select(_file.c.id, _file.c.state, _file.c.path).where(
            _file.c.id.in_(ids), _file.c.state != FileState.DOOMED
        )
        rows = await connection.execute(held.order_by(_file.c.id).with_for_update())
        places = {row.id: Place(row.state, row.path) for row in rows}
        fates: dict[MoveItem, Fate] = {}
        for item in items:
            here, there = item.source_path, item.target_path
            if file_at_target:
                here, there = there, here
            fates[item] = decide(places.get(item.file_id), places.get(item.twin_id), here, there)
        return cls(connection, migration_id, fates)

    async def exchange(self) -> None:
        """Each file takes its twin's path, and the twin the file's."""
        ready = self._of(Fate.READY)
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
        aside = literal(_ASIDE) + cast(_file.c.id, String)
        await self._update_all(twins, _file.c.state == FileState.WRITING, aside)
        unchanged = (_file.c.state == FileState.LIVE) & (_file.c.path == old_path)
        await self._update_all(files, unchanged, select(new).where(mine, is_file).scalar_subquery())
        await self._update_all(twins, literal(True), select(old).where(mine, is_twin).scalar_subquery())

    async def doom(self, grace: timedelta) -> None:
        """The twins of what is ready. One that may be half-copied waits for late effects."""
        await self._doom(self._of(Fate.READY), grace)

    async def note(self, state: MoveState, **values: Any) -> None:
        await self._note(self._of(Fate.READY), state, **values)

    async def settled(self) -> Settled:
        """Ends the batch: what is unwanted is dropped."""
        unwanted = self._of(Fate.UNWANTED)
        await self._doom(unwanted, _NO_GRACE)
        await self._note(unwanted, MoveState.DROPPED)
        return Settled(*(_ids(self._of(fate)) for fate in (Fate.READY, Fate.UNWANTED, Fate.CHANGED)))

    def _of(self, fate: Fate) -> list[MoveItem]:
        return [item for item, its in self._fates.items() if its is fate]

    async def _doom(self, items: Iterable[MoveItem], grace: timedelta) -> None:
        foreign: list[UUID] = []
        by_grace: dict[timedelta, list[UUID]] = {}
        for item in items:
            if item.state is MoveState.PLANNED:
                foreign.append(item.twin_id)
                continue
            its = LATE_EFFECT_GRACE if item.state is MoveState.COPYING else grace
            by_grace.setdefault(its, []).append(item.twin_id)
        for its, twins in by_grace.items():
            mine = _file.c.id.in_(twins) & (_file.c.state == FileState.WRITING)
            values = {"state": FileState.DOOMED, "not_before": now() + its}
            await self._connection.execute(update(_file).where(mine).values(values))
        if foreign:  # nothing of ours is there: no sweeper may be sent
            mine = _file.c.id.in_(foreign) & (_file.c.state == FileState.WRITING)
            await self._connection.execute(delete(_file).where(mine))

    async def _note(self, items: Iterable[MoveItem], state: MoveState, **values: Any) -> None:
        mine = (_item.c.migration_id == self._migration_id) & _item.c.file_id.in_(_ids(items))
        await self._connection.execute(update(_item).where(mine).values(state=state, problem=None, **values))

    async def _update_all(self, ids: list[UUID], condition: Any, path: Any) -> None:
        changed = await self._connection.execute(update(_file).where(_file.c.id.in_(ids), condition).values(path=path))
        if changed.rowcount != len(ids):
            raise CatalogUnavailable("rows that were locked have changed")  # never seen; all of it is rolled back


def _ids(items: Iterable[MoveItem]) -> frozenset[UUID]:
    return frozenset(item.file_id for item in items)
