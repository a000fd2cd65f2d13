"""`mediavault export`: brings originals back into a folder, from disk or S3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.catalog.browsing.exports import ExportedAsset
from app.catalog.catalog import Catalog
from app.cli.command_runner import call_with_catalog, fail, find_user, load_settings_with_logging, run_command
from app.cli.move_progress import format_size, show_move_progress
from app.config import Settings
from app.storage.errors import StorageError

if TYPE_CHECKING:
    from app.migration.exports.exporter import ExportReport

PROBLEMS_LEFT = 1


def export(
    to: Annotated[Path, typer.Option(help="The folder; it must exist.")],
    asset: Annotated[list[UUID] | None, typer.Option(help="Only this asset. Repeatable.")] = None,
    user: Annotated[str | None, typer.Option(help="All assets of this user: an address or an id.")] = None,
    trash: Annotated[bool, typer.Option("--trash", help="With those in the trash.")] = False,
    concurrency: Annotated[int, typer.Option(help="Files at a time.", min=1, max=64)] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, and no progress.")] = False,
) -> None:
    """Bring originals and sidecars back into a folder, with their names and dates, each compared with its SHA-1, from wherever they are.
    Nothing is overwritten; what is there already is compared and left, so an export that was stopped goes on when it is run again."""
    if bool(asset) is bool(user):
        fail("give either --asset or --user")
    settings = load_settings_with_logging()

    async def run(catalog: Catalog) -> ExportReport:
        export_all = partial(_export, settings, catalog, to, concurrency, quiet=as_json)
        if user is None:
            await _require_assets(catalog, asset or [])
            return await export_all(catalog.exports.iterate_by_id(asset or []), len(asset or []), 0)
        owner_id = (await find_user(catalog, user)).id
        files, size = await catalog.exports.measure_of_owner(owner_id, with_trash=trash)
        return await export_all(catalog.exports.iterate_of_owner(owner_id, with_trash=trash), files, size)

    report = run_command(call_with_catalog(settings, run))
    if as_json:
        typer.echo(json.dumps(_to_json(report)))
    else:
        typer.echo(f"exported: {report.files} files, {format_size(report.bytes)}; {report.present} were there already")
        for problem in report.problems.listed:
            typer.echo(f"  {problem.path}: {problem.problem}")
    if report.problems.count:
        raise typer.Exit(PROBLEMS_LEFT)


async def _require_assets(catalog: Catalog, asset_ids: list[UUID]) -> None:
    for asset_id in asset_ids:
        if await catalog.assets.get(asset_id) is None:
            fail(f"there is no asset {asset_id}")


async def _require_free_folder(settings: Settings, catalog: Catalog, folder: Path) -> None:
    """Ends the command where the folder is missing, or overlaps one whose photos are in the catalogue."""
    from app.libraries.import_paths.overlap import OverlapCheck  # noqa: PLC0415 - slow to import
    from app.libraries.import_paths.reserved_folders import (  # noqa: PLC0415
        list_read_folders,
        list_reserved_folders,
    )

    if not await asyncio.to_thread(folder.is_dir):
        fail(f"--to: {folder} is no folder")
    check = await asyncio.to_thread(OverlapCheck, [*list_reserved_folders(settings), *await list_read_folders(catalog)])
    if (reason := await asyncio.to_thread(check.rejection_reason, str(folder))) is not None:
        fail(f"--to: {reason}")


async def _export(
    settings: Settings,
    catalog: Catalog,
    to: Path,
    concurrency: int,
    pages: AsyncIterator[list[ExportedAsset]],
    files: int,
    size: int,
    *,
    quiet: bool,
) -> ExportReport:
    from app.cli.storage_access import describe_storage_error, open_verified_storage  # noqa: PLC0415 - slow to import
    from app.migration.exports.exporter import Exporter, ExportStopped  # noqa: PLC0415

    await _require_free_folder(settings, catalog, to)
    try:
        async with open_verified_storage(settings, catalog) as storage:
            with show_move_progress(quiet=quiet) as progress:
                target = await asyncio.to_thread(to.resolve)
                return await Exporter(storage, target, progress, concurrency=concurrency).run(pages, files, size)
    except StorageError as error:
        fail(describe_storage_error(error))
    except ExportStopped as error:
        fail(str(error))


def _to_json(report: ExportReport) -> dict[str, object]:
    return {
        "files": report.files,
        "bytes": report.bytes,
        "present": report.present,
        "problemCount": report.problems.count,
        "problems": [{"path": each.path, "problem": each.problem} for each in report.problems.listed],
    }
