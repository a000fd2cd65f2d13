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

from app.catalog.database.process_locks import LockCheck
from app.catalog.moves.move_ledger import OPEN_STATES, UNSWITCHED_STATES
from app.catalog.moves.path_switches import SwitchOutcome
from app.catalog.schema.move_records import CopyOutcome, FileMove, MoveState, StorageMigration
from app.catalog.schema.records import File
from app.migration.commit_batches import CommitBatches
from app.migration.copy_check import find_copy_problem, get_recorded_checksums
from app.migration.migration_context import (
    CommandTally,
    MigrationContext,
    hold_migration_lock,
    iterate_moves,
    make_report,
    require_current_migration,
)
from app.migration.parallel import run_in_parallel
from app.migration.problems import (
    CHECKSUM_UNRECORDED,
    COPY_DAMAGED,
    COPY_MISSING,
    ROWS_CHANGED,
    TARGET_OCCUPIED,
    MoveProblem,
    ProblemKind,
)
from app.migration.reports import MoveReport
from app.migration.route import check_media_locations
from app.migration.source_retention import SOURCE_RETENTION


@dataclass(frozen=True, slots=True)
class _CheckedMove:
    """`problem`: why the item must stay as it is. `is_foreign`: what lies at its target is no copy of it."""

    move: FileMove
    problem: MoveProblem | None
    is_foreign: bool = False


async def roll_back_move(context: MigrationContext, *, retention: timedelta = SOURCE_RETENTION) -> MoveReport:
    """Copies that were switched to are left to the sweeper for after their `retention`. Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    async with hold_migration_lock(context) as still_held:
        migration = await require_current_migration(context)
        await check_media_locations(context.catalog, context.storage, context.route.source)
        going_back = _MoveRollback(context, migration, still_held, retention)
        await going_back.run()
        notes: list[str] = []
        if await context.catalog.moves.finish_migration(migration.id):
            source = context.route.source.engine
            notes.append(
                f"the move to {context.target_engine} is undone; set IMMICH_STORAGE_ENGINE to {source} for new files to go there"
            )
        removed = [
            t.files for t in await context.catalog.moves.count_by_state(migration.id) if t.state is MoveState.REMOVED
        ]
        if removed:
            notes.append(f"{removed[0]} files were cleaned up before and stay at the target: a move back is a new one")
        return await make_report("rollback", context, migration, going_back.tally, notes)


class _MoveRollback:
    def __init__(
        self, context: MigrationContext, migration: StorageMigration, check_lock: LockCheck, retention: timedelta
    ) -> None:
        self._context = context
        self._migration = migration
        self._check_lock = check_lock
        self._retention = retention
        self._unswitched = CommitBatches(self._commit_unswitched)
        self._switched = CommitBatches(self._commit_switched)
        self.tally = CommandTally()

    async def run(self) -> None:
        tallies = await self._context.catalog.moves.count_by_state(self._migration.id, self._context.filters)
        still = [tally for tally in tallies if tally.state in OPEN_STATES]
        self._context.progress.begin("going back", sum(each.files for each in still), sum(each.bytes for each in still))
        unswitched = iterate_moves(self._context, self._migration, UNSWITCHED_STATES)
        await run_in_parallel(unswitched, self._context.concurrency, self._check_unswitched)
        await self._unswitched.flush()
        switched = iterate_moves(self._context, self._migration, {MoveState.SWITCHED})
        await run_in_parallel(switched, self._context.concurrency, self._check_switched)
        await self._switched.flush()

    async def _check_unswitched(self, move: FileMove) -> None:
        checked = (
            await self._check_source(move, move.file) if move.file and move.is_file_live else _CheckedMove(move, None)
        )
        self._context.progress.done(move.item.size)
        await self._unswitched.add(checked)

    async def _check_switched(self, move: FileMove) -> None:
        problem = (
            await self._find_source_problem(move, move.file) if move.file is not None and move.is_file_live else None
        )
        self._context.progress.done(move.item.size)
        await self._switched.add(_CheckedMove(move, problem))

    async def _check_source(self, move: FileMove, file: File) -> _CheckedMove:
        """Whether the copy may go: not where its source is not whole, and there may be no other."""
        record = get_recorded_checksums(file)
        if move.item.state is MoveState.PLANNED or record is None:
            return _CheckedMove(move, None)  # such a file was never copied
        key = self._context.route.target.paths.to_key(move.item.target_path)
        if move.item.state is MoveState.COPYING and key is not None:
            # A run that died, or a store that did not answer: what is there now?
            copy = await find_copy_problem(self._context.route.target, key, record, self._context.method)
            if copy in (COPY_MISSING, COPY_DAMAGED):
                return _CheckedMove(move, None, is_foreign=copy is COPY_DAMAGED)
        return _CheckedMove(move, await self._find_source_problem(move, file))

    async def _find_source_problem(self, move: FileMove, file: File) -> MoveProblem | None:
        key = self._context.route.source.paths.to_key(move.item.source_path)
        record = get_recorded_checksums(file)
        if key is None or record is None:
            return CHECKSUM_UNRECORDED
        fault = await find_copy_problem(self._context.route.source, key, record, self._context.method)
        if fault is None:
            return None
        if fault.kind is ProblemKind.COPY_MISSING:
            return MoveProblem(ProblemKind.MISSING, "its source is gone; the copy is kept")
        if fault.kind is ProblemKind.COPY_DAMAGED:
            return MoveProblem(ProblemKind.DAMAGED, "its source holds other bytes than recorded; the copy is kept")
        return fault

    async def _commit_unswitched(self, checked: list[_CheckedMove]) -> None:
        foreign = [each.move.item.file_id for each in checked if each.is_foreign]
        if foreign:
            outcomes = [CopyOutcome(file_id, MoveState.PLANNED, str(TARGET_OCCUPIED)) for file_id in foreign]
            await self._check_lock()
            await self._context.catalog.moves.record_outcomes(self._migration.id, outcomes)
        await self._commit_checked(checked, self._context.catalog.path_switches.cancel_moves)

    async def _commit_switched(self, checked: list[_CheckedMove]) -> None:
        await self._commit_checked(
            checked, partial(self._context.catalog.path_switches.switch_back, grace=self._retention)
        )

    async def _commit_checked(
        self,
        checked: list[_CheckedMove],
        undo_in_catalog: Callable[[UUID, Collection[UUID]], Awaitable[SwitchOutcome]],
    ) -> None:
        await self._check_lock()
        well: dict[UUID, int] = {
            each.move.item.file_id: each.move.item.size for each in checked if each.problem is None
        }
        settled = await undo_in_catalog(self._migration.id, well)
        faults = {each.move.item.file_id: str(each.problem) for each in checked if each.problem is not None}
        # Nothing is wrong with what its owner deleted while it was looked at.
        await self._context.catalog.path_switches.drop_deleted_items(self._migration.id, faults)
        problems = [*faults.items(), *((file_id, str(ROWS_CHANGED)) for file_id in settled.changed)]
        await self._context.catalog.moves.record_problems(self._migration.id, problems)
        self.tally.add([well[file_id] for file_id in settled.done])
