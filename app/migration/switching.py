"""`migrate switch`: verified copies become the files. The sources stay until they are cleaned up, so this can be undone.

The target is listed first: a copy that is not there any more, or has another size, is not switched to.
"""

from __future__ import annotations

from uuid import UUID

from app.catalog.move_records import Migration, Move, MoveOutcome, MoveState
from app.migration.listing import Listing, listed
from app.migration.problems import CHANGED, COPY_MISSING, ELSEWHERE, UNLISTED, Problem, ProblemKind
from app.migration.reports import Report
from app.migration.route import MoveRefused, require_engine, require_intact
from app.migration.work import Tally, Work, alone, any_unplanned, pages, report, require_current
from app.storage.errors import StorageError


async def switch(work: Work) -> Report:
    """Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    require_engine(work.storage, work.to)
    async with alone(work) as still_held:
        migration = await require_current(work)
        await require_intact(work.catalog, work.storage, work.route.target)
        tally = Tally()
        try:
            async with listed(work.route.target, work.storage.staging) as listing:
                tallies = await work.catalog.moves.tallies(migration.id, work.filters)
                verified = [each for each in tallies if each.state is MoveState.VERIFIED]
                work.progress.begin(
                    "switching", sum(each.files for each in verified), sum(each.bytes for each in verified)
                )
                async for page in pages(work, migration, {MoveState.VERIFIED}):
                    await still_held()
                    await _switch_page(work, migration, page, listing, tally)
        except StorageError as error:
            raise MoveRefused(f"{work.route.target.area.base} cannot be listed: {error.detail}") from error
        await work.catalog.moves.finish(migration.id)
        return await report("switch", work, migration, tally, await _notes(work, migration))


async def _switch_page(work: Work, migration: Migration, page: list[Move], listing: Listing, tally: Tally) -> None:
    keys = {move.item.file_id: work.route.target.area.key(move.item.target_path) for move in page}
    there = await listing.sizes(key.value for key in keys.values() if key is not None)
    ready: dict[UUID, int] = {}
    faulty: list[MoveOutcome] = []
    for move in page:
        key = keys[move.item.file_id]
        fault = _ELSEWHERE if key is None else _UNLISTED if listing.hides(key) else _fault(move, there.get(key.value))
        if fault is None:
            ready[move.item.file_id] = move.item.size
        else:
            faulty.append(MoveOutcome(move.item.file_id, fault[0], str(fault[1])))
        work.progress.done(move.item.size)
    settled = await work.catalog.exchanges.switch(migration.id, ready)
    dropped = await work.catalog.exchanges.drop_unwanted(migration.id, [each.file_id for each in faulty])
    await work.catalog.moves.record(migration.id, [each for each in faulty if each.file_id not in dropped])
    await work.catalog.moves.note_problems(migration.id, [(file_id, str(CHANGED)) for file_id in settled.changed])
    tally.add([ready[file_id] for file_id in settled.done])


_ELSEWHERE = (MoveState.VERIFIED, ELSEWHERE)
_UNLISTED = (MoveState.VERIFIED, UNLISTED)


def _fault(move: Move, there: int | None) -> tuple[MoveState, Problem] | None:
    """What keeps a verified copy of `there` bytes from being switched to, and how far the file is then."""
    if there is None:
        return MoveState.COPYING, COPY_MISSING
    if there != move.item.size:
        detail = f"{there} bytes at the target, {move.item.size} in the catalogue"
        return MoveState.COPIED, Problem(ProblemKind.COPY_DAMAGED, detail)
    return None


async def _notes(work: Work, migration: Migration) -> list[str]:
    notes: list[str] = []
    tallies = await work.catalog.moves.tallies(migration.id, work.filters)
    behind = sum(
        tally.files for tally in tallies if tally.state in (MoveState.PLANNED, MoveState.COPYING, MoveState.COPIED)
    )
    if behind or await any_unplanned(work, migration, work.filters):
        notes.append(f"not all files are copied and verified: `mediavault migrate run --to {work.to}` goes on")
    if any(tally.state is MoveState.SWITCHED for tally in tallies):
        notes.append(
            f"`mediavault migrate cleanup --to {work.to}` removes the sources, `rollback` in its place goes back to them"
        )
    return notes
