"""`migrate status`: how far the latest move has come. Asks the catalogue only, and needs no turn."""

from __future__ import annotations

from app.catalog.move_records import MoveState
from app.migration.reports import Problems, Report
from app.migration.work import Tally, Work, report


async def status(work: Work) -> Report:
    """Raises `CatalogError`."""
    migration = await work.catalog.moves.latest()
    if migration is None or migration.target is not work.to:
        return Report("status", None, 0, 0, 0.0, (), Problems(), (f"there has been no move to {work.to} lately",))
    notes: list[str] = []
    left, size = await work.catalog.moves.unswept(migration.id)
    if left:
        notes.append(f"{left} sources ({size} bytes) are still to be removed by the sweeper")
    made = await report("status", work, migration, Tally(), notes)
    if made.files_in(MoveState.DROPPED):
        notes.append(f"{made.files_in(MoveState.DROPPED)} files were deleted by their owners meanwhile")
    return made
