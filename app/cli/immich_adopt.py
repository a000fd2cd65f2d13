"""`mediavault immich adopt`: makes the files that Immich keeps ours, after Immich was stopped for good."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from app.catalog.catalog import Catalog
from app.cli.command_runner import call_with_catalog, fail, load_settings_with_logging, run_command
from app.cli.move_progress import format_size, show_move_progress
from app.config import Settings
from app.immich.errors import ImmichError
from app.storage.errors import StorageError

if TYPE_CHECKING:
    from app.migration.steps.adopt_step import AdoptionReport

PROBLEMS_LEFT = 1


def immich_adopt(
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="IMMICH_DATABASE_URL",
            help="Immich's database: nobody else may be connected to it, so that Immich is stopped.",
        ),
    ] = None,
    without_database: Annotated[
        bool, typer.Option("--without-database", help="Immich's database is gone for good: do not look for it.")
    ] = False,
    confirm: Annotated[
        str | None, typer.Option(help="What would be typed at the prompt: adopt and the number of files.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, and no progress.")] = False,
) -> None:
    """Make the files that were taken over from Immich ours, each at a verified copy in our media location. What has no copy is copied
    first. Immich's own files are left as they are. Originals of external libraries are not copied: they are read where they lie. At the
    end the folders are named that nothing here reads any more: their owner may remove them. May be stopped at any moment; run it again to
    go on."""
    if (database_url is None) is not without_database:
        fail("give either --database-url or --without-database")
    settings = load_settings_with_logging()

    async def adopt(catalog: Catalog) -> AdoptionReport:
        if database_url is not None:
            await _require_stopped(database_url)
        await _require_markers(catalog)
        count, size = await catalog.foreign_files.count()
        _confirm(count, size, confirm)
        await catalog.immich_sessions.delete_all()
        return await _adopt(settings, catalog, quiet=as_json)

    report = run_command(call_with_catalog(settings, adopt))
    if as_json:
        typer.echo(json.dumps(_to_json(report)))
    else:
        _print(report)
    if report.left or report.problems.count:
        raise typer.Exit(PROBLEMS_LEFT)


async def _require_stopped(database_url: str) -> None:
    from app.immich.running_check import require_stopped  # noqa: PLC0415 - slow to import

    try:
        await require_stopped(database_url)
    except ImmichError as error:
        fail(str(error))


async def _require_markers(catalog: Catalog) -> None:
    from app.immich.import_run import SOURCE_NAME  # noqa: PLC0415 - slow to import
    from app.immich.markers import require_markers  # noqa: PLC0415

    try:
        await require_markers(catalog, SOURCE_NAME)
    except ImmichError as error:
        fail(str(error))


def _confirm(count: int, size: int, typed: str | None) -> None:
    expected = f"adopt {count}"
    if typed is None:
        typed = typer.prompt(f"{count} files, {format_size(size)}, become ours. Type `{expected}` to go on")
    if typed != expected:
        fail(f"not confirmed: {expected!r} was not typed; nothing was changed")


async def _adopt(settings: Settings, catalog: Catalog, *, quiet: bool) -> AdoptionReport:
    from app.catalog.errors import MigrationBusy  # noqa: PLC0415 - slow to import
    from app.cli.storage_access import describe_storage_error, open_verified_storage  # noqa: PLC0415
    from app.migration.source_and_target import MoveRefused  # noqa: PLC0415
    from app.migration.steps.adopt_step import adopt_foreign_files, make_adoption_context  # noqa: PLC0415

    try:
        async with open_verified_storage(settings, catalog) as storage:
            with show_move_progress(quiet=quiet) as progress:
                return await adopt_foreign_files(make_adoption_context(catalog, storage, progress))
    except StorageError as error:
        fail(describe_storage_error(error))
    except (MoveRefused, MigrationBusy) as error:
        fail(str(error))


def _print(report: AdoptionReport) -> None:
    typer.echo(f"adopted: {report.files} files, {format_size(report.bytes)}")
    for problem in report.problems.listed:
        typer.echo(f"  {problem.path}: {problem.problem}")
    for note in report.notes:
        typer.echo(note)
    if report.left:
        typer.echo(f"{report.left} files are still Immich's: they have no whole copy")
    for root in report.kept_roots:
        typer.echo(
            f"{root} is still read: files below it have no copy of ours (those of external libraries never have)"
        )
    for root in report.roots:
        typer.echo(f"{root} is not read any more: its owner may remove it")


def _to_json(report: AdoptionReport) -> dict[str, object]:
    return {
        "files": report.files,
        "bytes": report.bytes,
        "left": report.left,
        "roots": report.roots,
        "keptRoots": report.kept_roots,
        "problemCount": report.problems.count,
        "problems": [{"path": each.path, "problem": each.problem} for each in report.problems.listed],
        "notes": report.notes,
    }
