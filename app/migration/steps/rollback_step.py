"""`migrate rollback`: changes the paths of switched files back to their sources, and gives up copies that were not switched.

Each source is checked first: where it is missing or damaged, the copy is kept. The target need not be reachable: the sweeper deletes the
copies when it is. An object at the target that this move did not copy stays.
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
from app.catalog.schema.move_records import CopyOutcome, MoveItemWithFile, MoveState, StorageMigration
from app.catalog.schema.records import File
from app.migration.bounded_concurrency import run_in_parallel
from app.migration.commit_batches import BatchCommitter
from app.migration.copy_check import find_copy_problem, get_recorded_checksums
from app.migration.foreign_copies import find_foreign_problem, give_up_outdated_copies
from app.migration.migration_context import (
    CommandTally,
    MigrationContext,
    hold_migration_lock,
    iterate_moves,
    make_report,
    require_current_migration,
)
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
from app.migration.source_and_target import check_media_locations
from app.migration.source_retention import SOURCE_RETENTION


@dataclass(frozen=True, slots=True)
class _CheckedMove:
    """`problem`: the reason why the item must stay as it is. `is_foreign`: the object at its target is no copy of its file."""

    move: MoveItemWithFile
    problem: MoveProblem | None
    is_foreign: bool = False


async def roll_back_move(context: MigrationContext, *, retention: timedelta = SOURCE_RETENTION) -> MoveReport:
    """The sweeper deletes the copies of switched files after `retention`. Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    async with hold_migration_lock(context) as check_lock:
        migration = await require_current_migration(context)
        await check_media_locations(context.catalog, context.storage, context.route.source)
        await give_up_outdated_copies(context, migration)
        rollback = _MoveRollback(context, migration, check_lock, retention)
        await rollback.run()
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
        return await make_report("rollback", context, migration, rollback.tally, notes)


class _MoveRollback:
    def __init__(
        self, context: MigrationContext, migration: StorageMigration, check_lock: LockCheck, retention: timedelta
    ) -> None:
        self._context = context
        self._migration = migration
        self._check_lock = check_lock
        self._retention = retention
        self._unswitched = BatchCommitter(self._commit_unswitched)
        self._switched = BatchCommitter(self._commit_switched)
        self.tally = CommandTally()

    async def run(self) -> None:
        tallies = await self._context.catalog.moves.count_by_state(self._migration.id, self._context.filters)
        open_tallies = [tally for tally in tallies if tally.state in OPEN_STATES]
        self._context.progress.begin(
            "going back", sum(each.files for each in open_tallies), sum(each.bytes for each in open_tallies)
        )
        unswitched = iterate_moves(self._context, self._migration, UNSWITCHED_STATES)
        await run_in_parallel(unswitched, self._context.concurrency, self._check_unswitched)
        await self._unswitched.flush()
        switched = iterate_moves(self._context, self._migration, {MoveState.SWITCHED})
        await run_in_parallel(switched, self._context.concurrency, self._check_switched)
        await self._switched.flush()

    async def _check_unswitched(self, move: MoveItemWithFile) -> None:
        checked = (
            await self._check_source(move, move.file) if move.file and move.is_file_live else _CheckedMove(move, None)
        )
        self._context.progress.done(move.item.size)
        await self._unswitched.add(checked)

    async def _check_switched(self, move: MoveItemWithFile) -> None:
        problem = (
            await self._find_source_problem(move, move.file) if move.file is not None and move.is_file_live else None
        )
        self._context.progress.done(move.item.size)
        await self._switched.add(_CheckedMove(move, problem))

    async def _check_source(self, move: MoveItemWithFile, file: File) -> _CheckedMove:
        """Checks whether the copy may be deleted: not where the source is missing or damaged, because the copy may be the only one."""
        recorded = get_recorded_checksums(file)
        if move.item.state is MoveState.PLANNED or recorded is None:
            return _CheckedMove(move, None)  # such a file was never copied
        key = self._context.route.target.paths.to_key(move.item.target_path)
        if move.item.state is MoveState.COPYING and key is not None:
            # The run was killed, or the store did not answer: check what is at the target now.
            copy_problem = await find_copy_problem(self._context.route.target, key, recorded, self._context.method)
            if copy_problem in (COPY_MISSING, COPY_DAMAGED):
                return _CheckedMove(move, None, is_foreign=copy_problem is COPY_DAMAGED)
        return _CheckedMove(move, await self._find_source_problem(move, file))

    async def _find_source_problem(self, move: MoveItemWithFile, file: File) -> MoveProblem | None:
        key = self._context.route.source.paths.to_key(move.item.source_path)
        recorded = get_recorded_checksums(file)
        if recorded is None or (key is None and not file.is_foreign):
            return CHECKSUM_UNRECORDED
        if key is None or file.is_foreign:
            source_problem = await find_foreign_problem(self._context.storage, file.path, recorded)
        else:
            source_problem = await find_copy_problem(self._context.route.source, key, recorded, self._context.method)
        if source_problem is None:
            return None
        if source_problem.kind is ProblemKind.COPY_MISSING:
            return MoveProblem(ProblemKind.MISSING, "its source is gone; the copy is kept")
        if source_problem.kind is ProblemKind.COPY_DAMAGED:
            return MoveProblem(ProblemKind.DAMAGED, "its source holds other bytes than recorded; the copy is kept")
        return source_problem

    async def _commit_unswitched(self, checked: list[_CheckedMove]) -> None:
        foreign_ids = [each.move.item.file_id for each in checked if each.is_foreign]
        if foreign_ids:
            outcomes = [CopyOutcome(file_id, MoveState.PLANNED, str(TARGET_OCCUPIED)) for file_id in foreign_ids]
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
        undoable: dict[UUID, int] = {
            each.move.item.file_id: each.move.item.size for each in checked if each.problem is None
        }
        outcome = await undo_in_catalog(self._migration.id, undoable)
        problems_by_id = {each.move.item.file_id: str(each.problem) for each in checked if each.problem is not None}
        # A file that its owner deleted meanwhile has no problem.
        await self._context.catalog.path_switches.drop_deleted_items(self._migration.id, problems_by_id)
        problems = [*problems_by_id.items(), *((file_id, str(ROWS_CHANGED)) for file_id in outcome.changed)]
        await self._context.catalog.moves.record_problems(self._migration.id, problems)
        self.tally.add([undoable[file_id] for file_id in outcome.done])
