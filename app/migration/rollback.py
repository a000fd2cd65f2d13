"""`migrate rollback`: what was switched and not cleaned up goes back to its source, and copies that were not switched are given up.

Each source is checked before its file goes back to it: one that is no longer whole keeps the copy. The store that was moved to
need not answer: its copies are removed by the sweeper once it does.
"""

from __future__ import annotations

from uuid import UUID

from app.catalog.locks import StillHeld
from app.catalog.move_records import Migration, Move, MoveState
from app.catalog.records import File
from app.migration.batches import Batches
from app.migration.parallel import in_parallel
from app.migration.problems import CHANGED, UNRECORDED, Problem, ProblemKind
from app.migration.reports import Report
from app.migration.route import require_intact
from app.migration.verification import find_fault, record_of
from app.migration.work import Tally, Work, alone, pages, report, require_current

_UNSWITCHED = (MoveState.PLANNED, MoveState.COPIED, MoveState.VERIFIED)


async def rollback(work: Work) -> Report:
    """Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    async with alone(work) as still_held:
        migration = await require_current(work)
        await require_intact(work.catalog, work.storage, work.route.source)
        going_back = _GoingBack(work, migration, still_held)
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
    def __init__(self, work: Work, migration: Migration, still_held: StillHeld) -> None:
        self._work = work
        self._migration = migration
        self._still_held = still_held
        self._checked = Batches(self._settle)
        self.tally = Tally()

    async def all(self) -> None:
        async for page in pages(self._work, self._migration, _UNSWITCHED):
            await self._still_held()
            await self._give_up(page)
        tallies = await self._work.catalog.moves.tallies(self._migration.id, self._work.filters)
        switched = [tally for tally in tallies if tally.state is MoveState.SWITCHED]
        self._work.progress.begin(
            "going back", sum(each.files for each in switched), sum(each.bytes for each in switched)
        )
        source = pages(self._work, self._migration, {MoveState.SWITCHED})
        await in_parallel(source, self._work.concurrency, self._check)
        await self._checked.flush()

    async def _give_up(self, page: list[Move]) -> None:
        sizes = {move.item.file_id: move.item.size for move in page}
        settled = await self._work.catalog.exchanges.give_up(self._migration.id, sizes)
        await self._note_changed(settled.changed)
        self.tally.add([sizes[file_id] for file_id in settled.done])

    async def _check(self, move: Move) -> None:
        problem = await self._fault(move, move.file) if move.file is not None and move.wanted else None
        self._work.progress.done(move.item.size)
        await self._checked.add((move, problem))

    async def _fault(self, move: Move, file: File) -> Problem | None:
        key = self._work.route.source.area.key(move.item.source_path)
        record = record_of(file)
        if key is None or record is None:
            return UNRECORDED
        fault = await find_fault(self._work.route.source, key, record, self._work.method)
        if fault is None:
            return None
        if fault.kind is ProblemKind.COPY_MISSING:
            return Problem(ProblemKind.MISSING, "its source is gone; it stays at the target")
        if fault.kind is ProblemKind.COPY_DAMAGED:
            return Problem(ProblemKind.DAMAGED, "its source holds other bytes than recorded; it stays at the target")
        return fault

    async def _settle(self, checked: list[tuple[Move, Problem | None]]) -> None:
        await self._still_held()
        well: dict[UUID, int] = {move.item.file_id: move.item.size for move, problem in checked if problem is None}
        settled = await self._work.catalog.exchanges.switch_back(self._migration.id, well)
        faults = {move.item.file_id: str(problem) for move, problem in checked if problem is not None}
        # Nothing is wrong with what its owner deleted while it was looked at.
        dropped = await self._work.catalog.exchanges.drop_unwanted(self._migration.id, faults)
        problems = [(file_id, problem) for file_id, problem in faults.items() if file_id not in dropped]
        await self._work.catalog.moves.note_problems(self._migration.id, problems)
        await self._note_changed(settled.changed)
        self.tally.add([well[file_id] for file_id in settled.done])

    async def _note_changed(self, changed: frozenset[UUID]) -> None:
        await self._work.catalog.moves.note_problems(self._migration.id, [(each, str(CHANGED)) for each in changed])
