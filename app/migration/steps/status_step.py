"""`migrate status`: reports the state of the latest move. Reads only the catalogue, and takes no lock."""

from __future__ import annotations

from app.catalog.schema.move_records import MoveState
from app.migration.migration_context import CommandTally, MigrationContext, make_report
from app.migration.reports import MoveReport, ProblemList


async def report_move_status(context: MigrationContext) -> MoveReport:
    """Raises `CatalogError`."""
    migration = await context.catalog.moves.get_latest()
    if migration is None or migration.target is not context.target_engine:
        return MoveReport(
            "status", None, 0, 0, 0.0, (), ProblemList(), (f"there has been no move to {context.target_engine} lately",)
        )
    notes: list[str] = []
    left, size = await context.catalog.moves.count_unswept(migration.id)
    if left:
        notes.append(f"{left} sources ({size} bytes) are still to be removed by the sweeper")
    report = await make_report("status", context, migration, CommandTally(), notes)
    if report.count_files(MoveState.DROPPED):
        notes.append(f"{report.count_files(MoveState.DROPPED)} files were deleted by their owners meanwhile")
    return report
