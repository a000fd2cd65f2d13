"""`migrate switch`: changes the paths of files to their verified copies. The sources stay until `migrate cleanup`, so `migrate rollback`
can undo it.

The target is listed first: a file whose copy is missing or has another size is not switched.
"""

from __future__ import annotations

from uuid import UUID

from app.catalog.schema.move_records import CopyOutcome, MoveItemWithFile, MoveState, StorageMigration
from app.migration.location_listing import LocationListing, open_listing
from app.migration.migration_context import (
    CommandTally,
    MigrationContext,
    has_unplanned_files,
    hold_migration_lock,
    iterate_moves,
    make_report,
    require_current_migration,
)
from app.migration.problems import (
    COPY_MISSING,
    FOLDER_UNLISTABLE,
    PLANNED_ELSEWHERE,
    ROWS_CHANGED,
    MoveProblem,
    ProblemKind,
)
from app.migration.reports import MoveReport
from app.migration.source_and_target import MoveRefused, check_media_locations, require_engine
from app.storage.errors import StorageError


async def switch_move(context: MigrationContext) -> MoveReport:
    """Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    require_engine(context.storage, context.target_engine)
    async with hold_migration_lock(context) as check_lock:
        migration = await require_current_migration(context)
        await check_media_locations(context.catalog, context.storage, context.route.target)
        tally = CommandTally()
        try:
            async with open_listing(context.route.target, context.storage.staging) as listing:
                tallies = await context.catalog.moves.count_by_state(migration.id, context.filters)
                verified = [each for each in tallies if each.state is MoveState.VERIFIED]
                context.progress.begin(
                    "switching", sum(each.files for each in verified), sum(each.bytes for each in verified)
                )
                async for page in iterate_moves(context, migration, {MoveState.VERIFIED}):
                    await check_lock()
                    ours = [move for move in page if not move.is_foreign]  # the next run keeps the copies of the others
                    await _switch_page(context, migration, ours, listing, tally)
        except StorageError as error:
            raise MoveRefused(f"{context.route.target.paths.path_prefix} cannot be listed: {error.detail}") from error
        await context.catalog.moves.finish_migration(migration.id)
        return await make_report("switch", context, migration, tally, await _make_notes(context, migration))


async def _switch_page(
    context: MigrationContext,
    migration: StorageMigration,
    page: list[MoveItemWithFile],
    listing: LocationListing,
    tally: CommandTally,
) -> None:
    keys = {move.item.file_id: context.route.target.paths.to_key(move.item.target_path) for move in page}
    listed_sizes = await listing.sizes(key.value for key in keys.values() if key is not None)
    ready: dict[UUID, int] = {}
    faulty: list[CopyOutcome] = []
    for move in page:
        key = keys[move.item.file_id]
        copy_problem = (
            _ELSEWHERE_OUTCOME
            if key is None
            else _UNLISTED_OUTCOME
            if listing.is_in_unlisted_folder(key)
            else _find_copy_problem(move, listed_sizes.get(key.value))
        )
        if copy_problem is None:
            ready[move.item.file_id] = move.item.size
        else:
            faulty.append(CopyOutcome(move.item.file_id, copy_problem[0], str(copy_problem[1])))
        context.progress.done(move.item.size)
    outcome = await context.catalog.path_switches.switch(migration.id, ready)
    dropped = await context.catalog.path_switches.drop_deleted_items(migration.id, [each.file_id for each in faulty])
    await context.catalog.moves.record_outcomes(migration.id, [each for each in faulty if each.file_id not in dropped])
    await context.catalog.moves.record_problems(
        migration.id, [(file_id, str(ROWS_CHANGED)) for file_id in outcome.changed]
    )
    tally.add([ready[file_id] for file_id in outcome.done])


_ELSEWHERE_OUTCOME = (MoveState.VERIFIED, PLANNED_ELSEWHERE)
_UNLISTED_OUTCOME = (MoveState.VERIFIED, FOLDER_UNLISTABLE)


def _find_copy_problem(move: MoveItemWithFile, found_size: int | None) -> tuple[MoveState, MoveProblem] | None:
    """The problem of a verified copy that has `found_size` bytes in the listing, and the new state of its item; None where it can be
    switched."""
    if found_size is None:
        return MoveState.COPYING, COPY_MISSING
    if found_size != move.item.size:
        detail = f"{found_size} bytes at the target, {move.item.size} in the catalogue"
        return MoveState.COPIED, MoveProblem(ProblemKind.COPY_DAMAGED, detail)
    return None


async def _make_notes(context: MigrationContext, migration: StorageMigration) -> list[str]:
    notes: list[str] = []
    tallies = await context.catalog.moves.count_by_state(migration.id, context.filters)
    unverified_files = sum(
        tally.files for tally in tallies if tally.state in (MoveState.PLANNED, MoveState.COPYING, MoveState.COPIED)
    )
    if unverified_files or await has_unplanned_files(context, migration, context.filters):
        notes.append(
            f"not all files are copied and verified: `mediavault migrate run --to {context.target_engine}` goes on"
        )
    if any(tally.state is MoveState.SWITCHED for tally in tallies):
        notes.append(
            f"`mediavault migrate cleanup --to {context.target_engine}` removes the sources, `rollback` in its place goes back to them"
        )
    return notes
