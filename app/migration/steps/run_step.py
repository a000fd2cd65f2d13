"""`migrate run`: adds all files at the source to the ledger, copies and verifies them, and repeats until no new files are found.

The rows of a copy are committed before its first byte. After a kill the next run continues from the ledger: a complete copy is adopted
after its bytes were checked, an incomplete one was never visible.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from enum import Enum, auto
from uuid import UUID

from app.catalog.database.process_locks import LockCheck
from app.catalog.errors import CatalogError
from app.catalog.schema.move_records import CopyOutcome, MoveItemWithFile, MoveState, StorageMigration
from app.catalog.schema.records import File
from app.config import StorageEngine
from app.jobs.sweeper import sweep
from app.migration.bandwidth_limit import BandwidthLimit
from app.migration.bounded_concurrency import run_in_parallel
from app.migration.commit_batches import BatchCommitter
from app.migration.copy_check import get_recorded_checksums
from app.migration.file_copier import FileCopier
from app.migration.foreign_copies import (
    give_up_outdated_copies,
    hash_foreign_files,
    keep_copies,
    keep_verified_copies,
    plan_foreign_copies,
)
from app.migration.location_listing import LocationListing, open_listing
from app.migration.markers_and_backups import copy_untracked_objects
from app.migration.migration_context import (
    PAGE_FILES,
    CommandTally,
    MigrationContext,
    find_current_migration,
    has_unplanned_files,
    hold_migration_lock,
    iterate_moves,
    make_report,
)
from app.migration.problems import TARGET_BUSY, ProblemKind, describe_target_error
from app.migration.reports import MoveReport, ProblemList
from app.migration.source_and_target import check_media_locations, require_engine
from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.service import StorageLocation

MAX_CONSECUTIVE_FAILURES = 24
"""After this many consecutive files with a store that was unavailable or full the run stops; the next run continues."""

_UNVERIFIED_STATES = (MoveState.PLANNED, MoveState.COPYING, MoveState.COPIED)


class _TargetState(Enum):
    """What is known about an item's target before its copy begins."""

    FREE = auto()
    TAKEN = auto()
    UNKNOWN = auto()


async def run_move(context: MigrationContext) -> MoveReport:
    """Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    require_engine(context.storage, context.target_engine)
    async with hold_migration_lock(context) as check_lock:
        migration = await find_current_migration(context) or await context.catalog.moves.begin_migration(
            context.target_engine
        )
        await check_media_locations(context.catalog, context.storage, context.route.source, context.route.target)
        # Copies of a rolled-back move may still occupy their targets.
        await sweep(context.catalog, context.storage, now=datetime.now(UTC))
        copy_run = _CopyRun(context, migration, check_lock)
        problems = await copy_untracked_objects(context)
        await give_up_outdated_copies(context, migration)
        if context.target_engine is StorageEngine.S3:
            await keep_verified_copies(context, migration)
            await hash_foreign_files(context, problems)
        async with _open_target_listing(context) as taken:
            while True:
                added, unplanned = await _add_candidates(context, migration)
                if context.target_engine is StorageEngine.S3:
                    added += await plan_foreign_copies(context, migration, unplanned)
                await copy_run.copy_all(taken)
                if not added or copy_run.is_stopped:
                    break
        for file_problem in unplanned.listed:
            problems.add(file_problem.path, file_problem.problem)
        notes = list(copy_run.notes)
        finished = await context.catalog.moves.finish_migration(migration.id)
        if finished and not await has_unplanned_files(context, migration, context.filters):
            notes.append("nothing is left to move")
        return await make_report("run", context, migration, copy_run.tally, notes, problems)


async def copy_foreign_files(
    context: MigrationContext, migration: StorageMigration, check_lock: LockCheck
) -> tuple[ProblemList, list[str]]:
    """The part of a run that concerns foreign files, to a target of either engine. Returns the problems of files that could not be
    planned, and notes; problems of copies are in the ledger."""
    problems = ProblemList()
    await give_up_outdated_copies(context, migration)
    await keep_verified_copies(context, migration)
    await hash_foreign_files(context, problems)
    copy_run = _CopyRun(context, migration, check_lock)
    async with _open_target_listing(context) as taken:
        unplanned = ProblemList()
        if await plan_foreign_copies(context, migration, unplanned) or await _has_unverified_items(context, migration):
            await copy_run.copy_all(taken)
    for file_problem in unplanned.listed:
        problems.add(file_problem.path, file_problem.problem)
    return problems, copy_run.notes


async def _has_unverified_items(context: MigrationContext, migration: StorageMigration) -> bool:
    tallies = await context.catalog.moves.count_by_state(migration.id, context.filters)
    return any(tally.state in _UNVERIFIED_STATES for tally in tallies)


async def _add_candidates(context: MigrationContext, migration: StorageMigration) -> tuple[int, ProblemList]:
    """Insert ledger items and twins for all files at the source without one. Returns the number of items, and the problems."""
    added = 0
    problems = ProblemList()
    after: UUID | None = None
    base = context.route.source.paths.path_prefix
    while True:
        page = await context.catalog.moves.get_candidates(
            base, migration.id, after=after, limit=PAGE_FILES, filters=context.filters, only_unplanned=True
        )
        planned_paths: list[tuple[File, str]] = []
        for candidate in page:
            try:
                planned_paths.append((candidate.file, context.route.target_path(candidate.file.path)))
            except StorageError as error:
                problems.add(candidate.file.path, str(describe_target_error(error)))
        taken = await context.catalog.moves.plan_moves(migration.id, planned_paths) if planned_paths else set()
        for file, path in planned_paths:
            if path in taken:
                problems.add(file.path, str(TARGET_BUSY))
        added += len(planned_paths) - len(taken)
        if len(page) < PAGE_FILES:
            return added, problems
        after = page[-1].file.id


@asynccontextmanager
async def _open_target_listing(context: MigrationContext) -> AsyncIterator[LocationListing | None]:
    """Lists an S3 target, to save a request per key. None for a local target, where a lookup costs nothing, and where the target may not
    be listed."""
    async with AsyncExitStack() as stack:
        listing: LocationListing | None = None
        if context.target_engine is StorageEngine.S3:
            with suppress(StorageError):
                listing = await stack.enter_async_context(open_listing(context.route.target, context.storage.staging))
        yield listing


class _CopyRun:
    """Copies the items of the ledger, several at a time, and records the outcomes."""

    def __init__(self, context: MigrationContext, migration: StorageMigration, check_lock: LockCheck) -> None:
        self._context = context
        self._migration = migration
        self._check_lock = check_lock
        self._copier = FileCopier(
            context.storage, context.route, context.method, BandwidthLimit(context.bandwidth), context.progress
        )
        self._results = BatchCommitter(self._record_outcomes)
        self._sizes: dict[UUID, int] = {}
        self._foreign: dict[UUID, MoveItemWithFile] = {}
        self._consecutive_failures = 0
        self.tally = CommandTally()
        self.notes: list[str] = []
        self.is_stopped = False

    async def copy_all(self, listing: LocationListing | None) -> None:
        """Process every unverified item once. `listing`: the target before the first copy."""
        tallies = await self._context.catalog.moves.count_by_state(self._migration.id, self._context.filters)
        unverified = [tally for tally in tallies if tally.state in _UNVERIFIED_STATES]
        if not unverified:
            return
        self._context.progress.begin(
            "copying", sum(each.files for each in unverified), sum(each.bytes for each in unverified)
        )
        try:
            await run_in_parallel(self._check_targets(listing), self._context.concurrency, self._process_move)
        except BaseException:
            with suppress(CatalogError):
                await self._results.flush()
            raise
        await self._results.flush()

    async def _check_targets(
        self, listing: LocationListing | None
    ) -> AsyncIterator[list[tuple[MoveItemWithFile, _TargetState]]]:
        """Pages of items with the state of their targets. Items that may be copied are set to `copying` first, in one statement per
        page."""
        async for page in iterate_moves(self._context, self._migration, _UNVERIFIED_STATES):
            if self.is_stopped:
                return
            known = await self._check_page_targets(page, listing)
            await self._check_lock()
            await self._context.catalog.moves.begin_copying(
                self._migration.id,
                [
                    move.item.file_id
                    for move, target in known
                    if target is not _TargetState.TAKEN
                    and move.is_file_live
                    and move.file
                    and get_recorded_checksums(move.file)
                ],
            )
            yield known

    async def _check_page_targets(
        self, page: list[MoveItemWithFile], listing: LocationListing | None
    ) -> list[tuple[MoveItemWithFile, _TargetState]]:
        target = self._context.route.target
        keys = [target.paths.to_key(move.item.target_path) for move in page]
        valid_keys = [key for key in keys if key is not None]
        if listing is not None:
            present = set(await listing.sizes(key.value for key in valid_keys))
        elif target.engine is StorageEngine.LOCAL:
            present = await asyncio.to_thread(_find_present, target, valid_keys)
        else:
            return [(move, _TargetState.UNKNOWN) for move in page]
        return [
            (move, _TargetState.TAKEN if key is not None and key.value in present else _TargetState.FREE)
            for move, key in zip(page, keys, strict=True)
        ]

    async def _process_move(self, item: tuple[MoveItemWithFile, _TargetState]) -> None:
        move, target = item
        if self.is_stopped:
            outcome = CopyOutcome(
                move.item.file_id, move.item.state, move.item.problem
            )  # the state before its page was set to `copying`
        elif move.file is None or not move.is_file_live:
            outcome = CopyOutcome(move.item.file_id, move.item.state, "deleted")
            self._context.progress.done(move.item.size)
        else:
            outcome = await self._copy_or_adopt(move, move.file, target)
        self._count_failures(outcome)
        self._sizes[move.item.file_id] = move.item.size
        if move.is_foreign and outcome.state is MoveState.VERIFIED:
            self._foreign[move.item.file_id] = move
        await self._results.add(outcome)

    async def _copy_or_adopt(self, move: MoveItemWithFile, file: File, target: _TargetState) -> CopyOutcome:
        if target is _TargetState.TAKEN and move.item.state is MoveState.PLANNED:
            # Perhaps a foreign object: the item stays `planned`, so that no later process takes the object for a copy of this move.
            outcome = await self._copier.adopt_copy(move, file)
            if outcome is not None:
                return outcome
            await self._context.catalog.moves.begin_copying(self._migration.id, [move.item.file_id])
        skip_exists_check = target is _TargetState.FREE and self._context.target_engine is StorageEngine.S3
        return await self._copier.copy_file(move, file, skip_exists_check=skip_exists_check)

    def _count_failures(self, outcome: CopyOutcome) -> None:
        is_store_failure = (outcome.problem or "").startswith((f"{ProblemKind.UNAVAILABLE}:", f"{ProblemKind.FULL}:"))
        self._consecutive_failures = self._consecutive_failures + 1 if is_store_failure else 0
        if self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES and not self.is_stopped:
            self.is_stopped = True
            self.notes.append(
                f"stopped after {self._consecutive_failures} failures in a row ({outcome.problem}); run it again later"
            )

    async def _record_outcomes(self, outcomes: list[CopyOutcome]) -> None:
        await self._check_lock()
        # Outcomes first: whether the object at the target is a copy decides what happens to dropped items, too.
        await self._context.catalog.moves.record_outcomes(self._migration.id, outcomes)
        verified = [self._foreign.pop(each.file_id) for each in outcomes if each.file_id in self._foreign]
        kept_ids = await keep_copies(self._context, self._migration, verified)
        failed = [outcome.file_id for outcome in outcomes if outcome.problem]
        failed += [move.item.file_id for move in verified if move.item.file_id not in kept_ids]
        dropped = await self._context.catalog.path_switches.drop_deleted_items(self._migration.id, failed)
        kept = [outcome for outcome in outcomes if outcome.file_id not in dropped]
        sizes = {outcome.file_id: self._sizes.pop(outcome.file_id) for outcome in outcomes}
        self.tally.add([sizes[outcome.file_id] for outcome in kept if outcome.state is MoveState.VERIFIED])


def _find_present(location: StorageLocation, keys: list[Key]) -> set[str]:
    """The keys at which a local file exists."""
    files = ((key.value, location.backend.local_path(key)) for key in keys)
    return {name for name, file in files if file is not None and os.path.lexists(file)}
