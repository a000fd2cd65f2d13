"""`migrate rollback`: what was switched and not cleaned up goes back to its source, and copies that were not switched are given up.

Each source is checked before its file goes back to it, or its copy is given up: one that is no longer whole keeps the copy. The store
that was moved to need not answer: its copies are removed by the sweeper once it does. Where no copy was begun, or what lies at the
target is none, it is somebody else's and stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from app.catalog.exchanges import Settled
from app.catalog.locks import StillHeld
from app.catalog.move_records import Migration, Move, MoveOutcome, MoveState
from app.catalog.moves import OPEN, UNSWITCHED
from app.catalog.records import File
from app.migration.batches import Batches
from app.migration.parallel import in_parallel
from app.migration.problems import CHANGED, COPY_DAMAGED, COPY_MISSING, OCCUPIED, UNRECORDED, Problem, ProblemKind
from app.migration.reports import Report
from app.migration.resting import REST
from app.migration.route import require_intact
from app.migration.verification import find_fault, record_of
from app.migration.work import Tally, Work, alone, pages, report, require_current


@dataclass(frozen=True, slots=True)
class _Checked:
    """`problem`: why the item must stay as it is. `foreign`: what lies at its target is no copy of it."""

    move: Move
    problem: Problem | None
    foreign: bool = False


async def rollback(work: Work, *, rest: timedelta = REST) -> Report:
    """Copies that were switched to are left to the sweeper for after their `rest`. Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    async with alone(work) as still_held:
        migration = await require_current(work)
        await require_intact(work.catalog, work.storage, work.route.source)
        going_back = _GoingBack(work, migration, still_held, rest)
        await going_back.all()
        notes: list[str] = []
        if await work.catalog.moves.finish(migration.id):
            source = work.route.source.engine
            notes.append(
                f"the move to {work.to} is undone; set IMMICH_STORAGE_ENGINE to {source} for new files to go there"
            )
        removed = [t.files for t in await work.catalog.moves.tallies(migration.id) if t.state is MoveState.REMOVED]
        if removed:
            notes.append(f"{removed[0]} files were cleaned up before and stay at the target: a move back is a new one")
        return await report("rollback", work, migration, going_back.tally, notes)


class _GoingBack:
    def __init__(self, work: Work, migration: Migration, still_held: StillHeld, rest: timedelta) -> None:
        self._work = work
        self._migration = migration
        self._still_held = still_held
        self._rest = rest
        self._unswitched = Batches(self._settle_unswitched)
        self._switched = Batches(self._settle_switched)
        self.tally = Tally()

    async def all(self) -> None:
        tallies = await self._work.catalog.moves.tallies(self._migration.id, self._work.filters)
        still = [tally for tally in tallies if tally.state in OPEN]
        self._work.progress.begin("going back", sum(each.files for each in still), sum(each.bytes for each in still))
        unswitched = pages(self._work, self._migration, UNSWITCHED)
        await in_parallel(unswitched, self._work.concurrency, self._check_unswitched)
        await self._unswitched.flush()
        switched = pages(self._work, self._migration, {MoveState.SWITCHED})
        await in_parallel(switched, self._work.concurrency, self._check_switched)
        await self._switched.flush()

    async def _check_unswitched(self, move: Move) -> None:
        checked = await self._look(move, move.file) if move.file and move.wanted else _Checked(move, None)
        self._work.progress.done(move.item.size)
        await self._unswitched.add(checked)

    async def _check_switched(self, move: Move) -> None:
        problem = await self._fault(move, move.file) if move.file is not None and move.wanted else None
        self._work.progress.done(move.item.size)
        await self._switched.add(_Checked(move, problem))

    async def _look(self, move: Move, file: File) -> _Checked:
        """Whether the copy may go: not where its source is not whole, and there may be no other."""
        record = record_of(file)
        if move.item.state is MoveState.PLANNED or record is None:
            return _Checked(move, None)  # such a file was never copied
        key = self._work.route.target.area.key(move.item.target_path)
        if move.item.state is MoveState.COPYING and key is not None:
            # A run that died, or a store that did not answer: what is there now?
            copy = await find_fault(self._work.route.target, key, record, self._work.method)
            if copy in (COPY_MISSING, COPY_DAMAGED):
                return _Checked(move, None, foreign=copy is COPY_DAMAGED)
        return _Checked(move, await self._fault(move, file))

    async def _fault(self, move: Move, file: File) -> Problem | None:
        key = self._work.route.source.area.key(move.item.source_path)
        record = record_of(file)
        if key is None or record is None:
            return UNRECORDED
        fault = await find_fault(self._work.route.source, key, record, self._work.method)
        if fault is None:
            return None
        if fault.kind is ProblemKind.COPY_MISSING:
            return Problem(ProblemKind.MISSING, "its source is gone; the copy is kept")
        if fault.kind is ProblemKind.COPY_DAMAGED:
            return Problem(ProblemKind.DAMAGED, "its source holds other bytes than recorded; the copy is kept")
        return fault

    async def _settle_unswitched(self, checked: list[_Checked]) -> None:
        foreign = [each.move.item.file_id for each in checked if each.foreign]
        if foreign:
            outcomes = [MoveOutcome(file_id, MoveState.PLANNED, str(OCCUPIED)) for file_id in foreign]
            await self._still_held()
            await self._work.catalog.moves.record(self._migration.id, outcomes)
        await self._settle(checked, self._work.catalog.exchanges.give_up)

    async def _settle_switched(self, checked: list[_Checked]) -> None:
        await self._settle(checked, partial(self._work.catalog.exchanges.switch_back, grace=self._rest))

    async def _settle(
        self,
        checked: list[_Checked],
        go_back: Callable[[UUID, Collection[UUID]], Awaitable[Settled]],
    ) -> None:
        await self._still_held()
        well: dict[UUID, int] = {
            each.move.item.file_id: each.move.item.size for each in checked if each.problem is None
        }
        settled = await go_back(self._migration.id, well)
        faults = {each.move.item.file_id: str(each.problem) for each in checked if each.problem is not None}
        # Nothing is wrong with what its owner deleted while it was looked at.
        await self._work.catalog.exchanges.drop_unwanted(self._migration.id, faults)
        problems = [*faults.items(), *((file_id, str(CHANGED)) for file_id in settled.changed)]
        await self._work.catalog.moves.note_problems(self._migration.id, problems)
        self.tally.add([well[file_id] for file_id in settled.done])
