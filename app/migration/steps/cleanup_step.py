"""`migrate cleanup`: deletes the sources of switched files, each right after its copy was verified once more.

Waits until the retention since the switch is over (see `source_retention`). A source whose copy cannot be verified is kept.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.catalog.database.process_locks import LockCheck
from app.catalog.moves.move_ledger import NO_FILTERS
from app.catalog.schema.move_records import MoveItemWithFile, MoveState, StorageMigration
from app.catalog.schema.records import File
from app.config import StorageEngine
from app.jobs.sweeper import sweep
from app.migration.bounded_concurrency import run_in_parallel
from app.migration.commit_batches import BatchCommitter
from app.migration.copy_check import find_copy_problem, get_recorded_checksums
from app.migration.migration_context import (
    CommandTally,
    MigrationContext,
    has_unplanned_files,
    hold_migration_lock,
    iterate_moves,
    make_report,
    require_current_migration,
)
from app.migration.problems import CHECKSUM_UNRECORDED, ROWS_CHANGED, MoveProblem
from app.migration.reports import MoveReport
from app.migration.source_and_target import check_media_locations, require_engine
from app.migration.source_retention import SOURCE_RETENTION
from app.storage.errors import StorageError


async def clean_up_move(context: MigrationContext, *, retention: timedelta = SOURCE_RETENTION) -> MoveReport:
    """Waits until the latest switch is `retention` ago. Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    require_engine(context.storage, context.target_engine)
    async with hold_migration_lock(context) as check_lock:
        migration = await require_current_migration(context)
        await check_media_locations(context.catalog, context.storage, context.route.source, context.route.target)
        await _wait_for_retention(context, migration, retention)
        _, doomed_before = await context.catalog.moves.count_unswept(migration.id)
        cleanup = _SourceCleanup(context, migration, check_lock)
        await cleanup.run()
        swept = await sweep(context.catalog, context.storage, now=datetime.now(UTC))
        notes = await _make_notes(context, migration, doomed_before + cleanup.tally.bytes, swept.failed)
        if await context.catalog.moves.finish_migration(migration.id):
            notes.append(await _describe_end(context, migration))
        if cleanup.tally.files:
            notes.append(
                "backups made until now name sources that are gone: `mediavault backup create` makes a new one"
            )
        return await make_report("cleanup", context, migration, cleanup.tally, notes)


async def _describe_end(context: MigrationContext, migration: StorageMigration) -> str:
    if await has_unplanned_files(context, migration, NO_FILTERS):
        return (
            f"all that was switched has moved; other files are still at {context.route.source.paths.path_prefix}:"
            f" `mediavault migrate run --to {context.target_engine}` moves them, too"
        )
    return f"the move to {context.target_engine} is finished"


async def _wait_for_retention(context: MigrationContext, migration: StorageMigration, retention: timedelta) -> None:
    latest_switch = await context.catalog.moves.get_latest_switch_time(migration.id, context.filters)
    if latest_switch is None:
        return
    # At most `retention`: a clock that was set back, or another host's, may have written a time in the future.
    left = min(latest_switch + retention - datetime.now(UTC), retention).total_seconds()
    if left > 0:
        context.progress.say(f"waiting {left:.0f} s: sources are kept for so long after the switch")
        await asyncio.sleep(left)


async def _make_notes(
    context: MigrationContext, migration: StorageMigration, deletable_bytes: int, failed_deletes: int
) -> list[str]:
    """`deletable_bytes`: bytes of sources that this command has doomed, or that were doomed before."""
    left, left_bytes = await context.catalog.moves.count_unswept(migration.id)
    # Items dropped meanwhile may be left too, without having been counted: hence max().
    notes = [f"freed {max(0, deletable_bytes - left_bytes)} bytes"] if deletable_bytes else []
    if left:
        notes.append(f"{left} sources ({left_bytes} bytes) are still to be removed by the sweeper")
    if failed_deletes:
        notes.append(f"the store refused to delete {failed_deletes} objects; they are tried again later")
    if context.route.source.engine is StorageEngine.LOCAL:
        try:
            folders = await context.route.source.backend.prune_folders()
            notes.append(f"removed {folders} empty folders")
        except StorageError as error:
            notes.append(f"empty folders could not be removed: {error.detail}")
    return notes


class _SourceCleanup:
    """Verifies copies, several at a time, and marks the sources of good ones for deletion, in small batches right after."""

    def __init__(self, context: MigrationContext, migration: StorageMigration, check_lock: LockCheck) -> None:
        self._context = context
        self._migration = migration
        self._check_lock = check_lock
        self._checked = BatchCommitter(self._commit_checked)
        self.tally = CommandTally()

    async def run(self) -> None:
        tallies = await self._context.catalog.moves.count_by_state(self._migration.id, self._context.filters)
        switched = [tally for tally in tallies if tally.state is MoveState.SWITCHED]
        self._context.progress.begin(
            "cleaning up", sum(each.files for each in switched), sum(each.bytes for each in switched)
        )
        source = iterate_moves(self._context, self._migration, {MoveState.SWITCHED})
        await run_in_parallel(source, self._context.concurrency, self._check)
        await self._checked.flush()

    async def _check(self, move: MoveItemWithFile) -> None:
        problem = (
            await self._find_copy_problem(move, move.file) if move.file is not None and move.is_file_live else None
        )
        self._context.progress.done(move.item.size)
        await self._checked.add((move, problem))

    async def _find_copy_problem(self, move: MoveItemWithFile, file: File) -> MoveProblem | None:
        key = self._context.route.target.paths.to_key(move.item.target_path)
        recorded = get_recorded_checksums(file)
        if key is None or recorded is None:
            return CHECKSUM_UNRECORDED
        return await find_copy_problem(self._context.route.target, key, recorded, self._context.method)

    async def _commit_checked(self, checked: list[tuple[MoveItemWithFile, MoveProblem | None]]) -> None:
        await self._check_lock()
        verified: dict[UUID, int] = {move.item.file_id: move.item.size for move, problem in checked if problem is None}
        outcome = await self._context.catalog.path_switches.mark_sources_for_deletion(self._migration.id, verified)
        problems_by_id = {move.item.file_id: str(problem) for move, problem in checked if problem is not None}
        # A file that its owner deleted meanwhile has no problem.
        dropped = await self._context.catalog.path_switches.drop_deleted_items(self._migration.id, problems_by_id)
        problems = [*problems_by_id.items(), *((file_id, str(ROWS_CHANGED)) for file_id in outcome.changed)]
        await self._context.catalog.moves.record_problems(self._migration.id, problems)
        if outcome.done or outcome.dropped or dropped:
            await sweep(self._context.catalog, self._context.storage, now=datetime.now(UTC))
        self.tally.add([verified[file_id] for file_id in outcome.done])
