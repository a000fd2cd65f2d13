"""`mediavault verify`: compares catalogue and storage, and repairs what it is asked to. The comparison itself is in `migration.consistency`.

Exit status, for scripts: 0 no problems, 1 problems are left, 2 the comparison could not be carried out, 3 all problems were repaired.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.catalog.verify_results import VerifyResult
from app.cli.command_runner import call_with_catalog, fail, load_settings_with_logging, run_command
from app.config import Settings
from app.storage.errors import StorageError

if TYPE_CHECKING:
    from app.migration.consistency.findings import ConsistencySummary

PROBLEMS, REPAIRED = 1, 3
FORMATS = ("table", "json", "csv")


def verify(
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Read every byte of every file and compare its SHA-1.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Have lost or damaged thumbnails and the like made again, and correct counts."),
    ] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Move objects that no row accounts for below quarantine/.")
    ] = False,
    format_: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
    concurrency: Annotated[int, typer.Option(help="So many files are looked at at a time.", min=1, max=64)] = 8,
) -> None:
    """Compare catalogue and storage, both ways; nothing is changed unless asked. Safe while the service runs.

    Exit status: 0 nothing wrong, 1 problems that are left, 2 it could not be carried out, 3 problems, all of them repaired.
    """
    if format_ not in FORMATS:
        fail(f"--format: {format_} is none of {', '.join(FORMATS)}")
    settings = load_settings_with_logging()

    async def compare(catalog: Catalog) -> int:
        return await _run_verification(catalog, settings, format_, checksums, repair, quarantine, concurrency)

    if status := run_command(call_with_catalog(settings, compare)):
        raise typer.Exit(status)


async def _run_verification(
    catalog: Catalog,
    settings: Settings,
    format_: str,
    checksums: bool,
    repair: bool,
    quarantine: bool,
    concurrency: int,
) -> int:
    from app.cli.storage_access import describe_storage_error, open_verified_storage  # noqa: PLC0415 - slow to import
    from app.cli.verify_report import ReportFormat, create_progress, create_report  # noqa: PLC0415
    from app.jobs.service import open_jobs  # noqa: PLC0415
    from app.migration.consistency.consistency_check import ConsistencyCheck  # noqa: PLC0415
    from app.migration.consistency.finding_repair import ConsistencyRepair  # noqa: PLC0415

    report = create_report(ReportFormat(format_))
    try:
        async with AsyncExitStack() as stack:
            storage = await stack.enter_async_context(open_verified_storage(settings, catalog))
            jobs = await stack.enter_async_context(open_jobs(settings, catalog, None)) if repair else None
            with create_progress() as progress:
                report.begin()
                check = ConsistencyCheck(
                    catalog,
                    storage,
                    on_finding=report.add,
                    progress=progress,
                    repairer=ConsistencyRepair(
                        catalog, storage, datetime.now(UTC), jobs=jobs, quarantine_orphans=quarantine
                    ),
                    checksums=checksums,
                    concurrency=concurrency,
                )
                summary = await check.run()
                await _save_result(catalog, summary, checksums=checksums)
    except StorageError as error:
        report.fail(describe_storage_error(error))
        fail(describe_storage_error(error))
    except BaseException as error:
        report.fail("interrupted" if isinstance(error, asyncio.CancelledError) else str(error) or type(error).__name__)
        raise
    report.end(summary)
    if not summary.problems:
        return 0
    return PROBLEMS if summary.unrepaired else REPAIRED


async def _save_result(catalog: Catalog, summary: ConsistencySummary, *, checksums: bool) -> None:
    """For `/metrics`. A database that cannot be written does not change what was found."""
    from app.migration.consistency.findings import FindingKind  # noqa: PLC0415 - slow to import

    problems = {kind.value: summary.problems[kind] for kind in FindingKind}
    try:
        await catalog.verify_results.save(VerifyResult(datetime.now(UTC), checksums, problems, summary.unrepaired))
    except CatalogError as error:
        typer.echo(f"mediavault: the result could not be saved for metrics: {error}", err=True)
