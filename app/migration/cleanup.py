"""`migrate cleanup`: the sources of switched files go, each right after its target was checked once more.

Not before the sources have rested since the switch (see `resting`). What cannot be shown to be whole at the target keeps its source.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.catalog.locks import StillHeld
from app.catalog.move_records import Migration, Move, MoveState
from app.catalog.moves import EVERYTHING
from app.catalog.records import File
from app.config import StorageEngine
from app.jobs.sweeper import sweep
from app.migration.batches import Batches
from app.migration.parallel import in_parallel
from app.migration.problems import CHANGED, UNRECORDED, Problem
from app.migration.reports import Report
from app.migration.resting import REST
from app.migration.route import require_engine, require_intact
from app.migration.verification import find_fault, record_of
from app.migration.work import Tally, Work, alone, any_unplanned, pages, report, require_current
from app.storage.errors import StorageError


async def cleanup(work: Work, *, rest: timedelta = REST) -> Report:
    """Waits until all that is switched has had its `rest`. Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    require_engine(work.storage, work.to)
    async with alone(work) as still_held:
        migration = await require_current(work)
        await require_intact(work.catalog, work.storage, work.route.source, work.route.target)
        await _wait(work, migration, rest)
        _, waited_before = await work.catalog.moves.unswept(migration.id)
        cleaning = _Cleaning(work, migration, still_held)
        await cleaning.all()
        swept = await sweep(work.catalog, work.storage, now=datetime.now(UTC))
        notes = await _notes(work, migration, waited_before + cleaning.tally.bytes, swept.failed)
        if await work.catalog.moves.finish(migration.id):
            notes.append(await _ending(work, migration))
        if cleaning.tally.files:
            notes.append(
                "backups made until now name sources that are gone: `mediavault backup create` makes a new one"
            )
        return await report("cleanup", work, migration, cleaning.tally, notes)


async def _ending(work: Work, migration: Migration) -> str:
    if await any_unplanned(work, migration, EVERYTHING):
        return (
            f"all that was switched has moved; other files are still at {work.route.source.area.base}:"
            f" `mediavault migrate run --to {work.to}` moves them, too"
        )
    return f"the move to {work.to} is finished"


async def _wait(work: Work, migration: Migration, rest: timedelta) -> None:
    youngest = await work.catalog.moves.youngest_switch(migration.id, work.filters)
    if youngest is None:
        return
    # At most its rest: a clock that was set back, or another host's, may have written a time to come.
    left = min(youngest + rest - datetime.now(UTC), rest).total_seconds()
    if left > 0:
        work.progress.say(f"waiting {left:.0f} s: sources are kept for so long after the switch")
        await asyncio.sleep(left)


async def _notes(work: Work, migration: Migration, doomed: int, failed: int) -> list[str]:
    """`doomed`: bytes of sources that this command has doomed, and that were to be swept before."""
    left, left_bytes = await work.catalog.moves.unswept(migration.id)
    # What was dropped meanwhile is left, and was never counted.
    notes = [f"freed {max(0, doomed - left_bytes)} bytes"] if doomed else []
    if left:
        notes.append(f"{left} sources ({left_bytes} bytes) are still to be removed by the sweeper")
    if failed:
        notes.append(f"the store refused to delete {failed} objects; they are tried again later")
    if work.route.source.engine is StorageEngine.LOCAL:
        try:
            folders = await work.route.source.backend.prune_folders()
            notes.append(f"removed {folders} empty folders")
        except StorageError as error:
            notes.append(f"empty folders could not be removed: {error.detail}")
    return notes


class _Cleaning:
    """Checks targets several at a time, and dooms the sources of those that are well in small batches right after."""

    def __init__(self, work: Work, migration: Migration, still_held: StillHeld) -> None:
        self._work = work
        self._migration = migration
        self._still_held = still_held
        self._checked = Batches(self._settle)
        self.tally = Tally()

    async def all(self) -> None:
        tallies = await self._work.catalog.moves.tallies(self._migration.id, self._work.filters)
        switched = [tally for tally in tallies if tally.state is MoveState.SWITCHED]
        self._work.progress.begin(
            "cleaning up", sum(each.files for each in switched), sum(each.bytes for each in switched)
        )
        source = pages(self._work, self._migration, {MoveState.SWITCHED})
        await in_parallel(source, self._work.concurrency, self._check)
        await self._checked.flush()

    async def _check(self, move: Move) -> None:
        problem = await self._fault(move, move.file) if move.file is not None and move.wanted else None
        self._work.progress.done(move.item.size)
        await self._checked.add((move, problem))

    async def _fault(self, move: Move, file: File) -> Problem | None:
        key = self._work.route.target.area.key(move.item.target_path)
        record = record_of(file)
        if key is None or record is None:
            return UNRECORDED
        return await find_fault(self._work.route.target, key, record, self._work.method)

    async def _settle(self, checked: list[tuple[Move, Problem | None]]) -> None:
        await self._still_held()
        well: dict[UUID, int] = {move.item.file_id: move.item.size for move, problem in checked if problem is None}
        settled = await self._work.catalog.exchanges.doom_sources(self._migration.id, well)
        faults = {move.item.file_id: str(problem) for move, problem in checked if problem is not None}
        # Nothing is wrong with what its owner deleted while it was looked at.
        dropped = await self._work.catalog.exchanges.drop_unwanted(self._migration.id, faults)
        problems = [*faults.items(), *((file_id, str(CHANGED)) for file_id in settled.changed)]
        await self._work.catalog.moves.note_problems(self._migration.id, problems)
        if settled.done or settled.dropped or dropped:
            await sweep(self._work.catalog, self._work.storage, now=datetime.now(UTC))
        self.tally.add([well[file_id] for file_id in settled.done])
