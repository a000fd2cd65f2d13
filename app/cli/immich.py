"""`mediavault immich`: takes over an installation of Immich where it lies."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, CatalogUnavailable
from app.cli.command_runner import (
    call_with_catalog,
    fail,
    load_settings_or_exit,
    load_settings_with_logging,
    print_table,
    run_command,
)
from app.cli.immich_adopt import immich_adopt
from app.cli.verify_report import create_progress
from app.immich.errors import ImmichError, NotReady

if TYPE_CHECKING:
    from app.immich.import_run import ImportOptions, ImportReport
    from app.immich.media_roots import MediaRoots
    from app.immich.plan import PlanReport
    from app.immich.problems import ProblemLog
    from app.immich.source.reader import SourceReader

T = TypeVar("T")

immich_cli = typer.Typer(
    no_args_is_help=True, help="An installation of Immich: looked through, taken over where it lies, followed."
)

immich_cli.command("adopt")(immich_adopt)

DatabaseUrl = Annotated[
    str,
    typer.Option(
        envvar="IMMICH_DATABASE_URL",
        help="Immich's database, with a role that may only read: postgresql://mediavault_reader:…@host/immich.",
    ),
]
MediaRootOption = Annotated[
    list[str] | None,
    typer.Option(help="Where a folder of Immich's container lies on this machine: /data=/srv/photos. Repeatable."),
]


AcceptMoves = Annotated[
    bool,
    typer.Option("--accept-moves", help="Of moves that Immich has not finished, take the path that holds the file."),
]
RETRY_SECONDS = 10
"""Until `follow` looks again after a state that passes, at most."""


@immich_cli.command("plan")
def immich_plan(
    database_url: DatabaseUrl,
    media_root: MediaRootOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Look through the installation, and report what would be taken over and what is wrong. Changes nothing. Ends with status 1 where an
    import would be refused."""

    async def plan(reader: SourceReader, roots: MediaRoots) -> PlanReport:
        from app.immich.plan import plan_import  # noqa: PLC0415 - slow to import

        with create_progress() as progress:
            return await plan_import(reader, roots, progress)

    report = _run(_call_with_source(database_url, media_root or [], plan))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _print_plan(report)
    if report.refusals:
        fail("; ".join(report.refusals), status=1)


@immich_cli.command("import")
def immich_import(
    database_url: DatabaseUrl,
    media_root: MediaRootOption = None,
    user: Annotated[
        list[str] | None, typer.Option(help="The email address of a user; all users without it. Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, only tell what would be written.")] = False,
    accept_moves: AcceptMoves = False,
    accept_vanished: Annotated[
        bool,
        typer.Option(
            "--accept-vanished",
            help="Assets that Immich has no more go to the trash, and accounts are closed, however many they are.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Take over users, keys, libraries and assets, with their files where they lie. Goes on where it was interrupted; what was taken over
    before is compared. Changes nothing of Immich's."""
    from app.immich.import_run import ImportOptions  # noqa: PLC0415 - slow to import

    options = ImportOptions(
        tuple(user) if user else None,
        dry_run=dry_run,
        accept_moves=accept_moves,
        accept_vanished=accept_vanished,
    )
    report = _run(_run_import(database_url, media_root or [], options))
    _print_import(report, as_json=as_json, would=dry_run)


@immich_cli.command("follow")
def immich_follow(
    database_url: DatabaseUrl,
    media_root: MediaRootOption = None,
    every: Annotated[int, typer.Option(help="Seconds between two looks.", min=5)] = 60,
    once: Annotated[bool, typer.Option("--once", help="Look once and end: for a timer.")] = False,
    compare_every: Annotated[
        int,
        typer.Option(help="Hours after which everything is compared, not only what Immich marks as changed.", min=0),
    ] = 24,
    accept_moves: AcceptMoves = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for each look.")] = False,
) -> None:
    """Take over what changes in Immich, until it is interrupted. The folders are those of the import, unless others are given. What
    Immich has no more goes to the trash. While Immich moves files, its database or ours does not answer, or a folder is not mounted, it
    says so and waits."""
    from app.immich.import_run import ImportOptions  # noqa: PLC0415 - slow to import

    options, compare_after = ImportOptions(accept_moves=accept_moves), timedelta(hours=compare_every)

    def look() -> None:
        report = _run(
            _run_import(database_url, media_root or [], options, compare_after=compare_after), passes=not once
        )
        if once or report.new or report.changed or report.trashed:
            _print_import(report, as_json=as_json)

    if once:
        look()
        return
    reported: type[Exception] | None = None
    while True:
        pause = every
        try:
            look()
            reported = None
        except (NotReady, CatalogUnavailable) as error:
            if type(error) is not reported:  # each once: messages have counts that change
                typer.echo(f"mediavault: waiting: {error}", err=True)
            reported, pause = type(error), min(every, RETRY_SECONDS)
        time.sleep(pause)


def _run(work: Coroutine[Any, Any, T], *, passes: bool = False) -> T:
    """As `run_command`; an `ImmichError` ends the command, too. With `passes`, what passes by itself is raised: `NotReady` and
    `CatalogUnavailable`."""
    try:
        return asyncio.run(work) if passes else run_command(work)
    except (ImmichError, CatalogError) as error:
        if passes and isinstance(error, NotReady | CatalogUnavailable):
            raise
        fail(str(error))


async def _run_import(
    database_url: str, media_roots: list[str], options: ImportOptions, *, compare_after: timedelta | None = None
) -> ImportReport:
    """Everything, or, with `compare_after`, what has changed."""
    from app.immich.import_run import SOURCE_NAME, ImmichImport  # noqa: PLC0415 - slow to import

    settings = load_settings_with_logging()
    options = replace(options, accept_sessions=settings.immich_sessions)

    async def work(catalog: Catalog) -> ImportReport:
        folders = media_roots
        if not folders and (source := await catalog.import_sources.get(SOURCE_NAME)) is not None:
            folders = list(source.media_roots)

        async def run(reader: SourceReader, roots: MediaRoots) -> ImportReport:
            with create_progress() as progress:
                run = ImmichImport(catalog, reader, roots, options, progress)
                if compare_after is None:
                    return await run.import_all()
                return await run.follow(compare_after=compare_after)

        return await _call_with_source(database_url, folders, run)

    return await call_with_catalog(settings, work)


async def _call_with_source(
    database_url: str, media_roots: list[str], work: Callable[[SourceReader, MediaRoots], Awaitable[T]]
) -> T:
    """Opens Immich's database, and returns the result of `work`. Raises `ImmichError`."""
    from app.immich.media_roots import parse_media_roots  # noqa: PLC0415 - slow to import
    from app.immich.source.connection import open_source  # noqa: PLC0415 - slow to import
    from app.immich.source.reader import SourceReader  # noqa: PLC0415 - slow to import

    settings = load_settings_or_exit()
    roots = parse_media_roots(media_roots, [settings.media_location])
    async with open_source(database_url) as connection:
        return await work(await SourceReader.open(connection), roots)


def _print_plan(report: PlanReport) -> None:
    typer.echo(
        f"Immich {report.version or 'of an unknown version'}, media location {report.media_location or 'unknown'}"
    )
    typer.echo(
        f"{report.users} users, {report.api_keys} API keys, {report.libraries} external libraries, {report.persons} persons"
    )
    typer.echo(
        f"{report.external} assets in external libraries, {report.trashed} in the trash, {report.locked} locked\n"
    )
    print_table(
        ("assets", "rows", "to take over"),
        [(type_, str(rows), str(report.importable[type_])) for type_, rows in sorted(report.assets.items())],
    )
    print_table(
        ("files", "count", "bytes"),
        [(kind, str(count), str(report.bytes[kind])) for kind, count in sorted(report.files.items())],
    )
    print_problems(report.problems)
    left = ", ".join(f"{count} {name}" for name, count in report.not_taken_over.items() if count)
    typer.echo(f"\nstays with Immich: {left or 'nothing'}")


def _print_import(report: ImportReport, *, as_json: bool, would: bool = False) -> None:
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
        return
    if would:
        typer.echo("nothing was written; an import would have done this:")
    typer.echo(
        f"{report.users} users, {report.api_keys} API keys, {report.libraries} external libraries, {report.persons} persons"
        + (f", {report.sessions} sessions" if report.sessions else "")
    )
    typer.echo(
        f"assets: {report.new} new, {report.changed} changed, {report.unchanged} unchanged, {report.trashed} to the trash, "
        f"{report.skipped} left out"
    )
    print_problems(report.problems)


def print_problems(problems: ProblemLog) -> None:
    """One line for each kind, then its examples. Control characters are escaped: they could be terminal commands."""
    typer.echo(f"\nproblems: {sum(problems.counts.values()) or 'none'}")
    for kind in sorted(problems.counts):
        typer.echo(f"{problems.counts[kind]:>9}  {kind.value}")
        for example in problems.examples[kind]:
            typer.echo(f"           {example if example.isprintable() else ascii(example)}")
