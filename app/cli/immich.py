"""`mediavault immich`: takes over an installation of Immich where it lies."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from app.cli.command_runner import fail, load_settings_or_exit, print_table, run_command
from app.cli.verify_report import create_progress
from app.immich.errors import ImmichError

if TYPE_CHECKING:
    from app.immich.media_roots import MediaRoots
    from app.immich.plan import PlanReport
    from app.immich.problems import ProblemLog
    from app.immich.source.reader import SourceReader

T = TypeVar("T")

immich_cli = typer.Typer(
    no_args_is_help=True, help="An installation of Immich: looked through, taken over where it lies, followed."
)

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


@immich_cli.command("plan")
def immich_plan(
    database_url: DatabaseUrl,
    media_root: MediaRootOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Look through the installation, and report what would be taken over and what is wrong. Changes nothing. Ends with status 1 where an import
    would be refused."""

    async def plan(reader: SourceReader, roots: MediaRoots) -> PlanReport:
        from app.immich.plan import plan_import  # noqa: PLC0415 - slow to import

        with create_progress() as progress:
            return await plan_import(reader, roots, progress)

    report = run_command(_call_with_source(database_url, media_root or [], plan))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _print_plan(report)
    if report.refusals:
        fail("; ".join(report.refusals), status=1)


async def _call_with_source(
    database_url: str, media_roots: list[str], work: Callable[[SourceReader, MediaRoots], Awaitable[T]]
) -> T:
    """Opens Immich's database, and returns the result of `work`. An `ImmichError` ends the command."""
    from app.immich.media_roots import parse_media_roots  # noqa: PLC0415 - slow to import
    from app.immich.source.connection import open_source  # noqa: PLC0415 - slow to import
    from app.immich.source.reader import SourceReader  # noqa: PLC0415 - slow to import

    settings = load_settings_or_exit()
    try:
        roots = parse_media_roots(media_roots, [settings.media_location])
        async with open_source(database_url) as connection:
            return await work(await SourceReader.open(connection), roots)
    except ImmichError as error:
        fail(str(error))


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


def print_problems(problems: ProblemLog) -> None:
    """One line for each kind, then its examples. Control characters are escaped: they could be terminal commands."""
    typer.echo(f"\nproblems: {sum(problems.counts.values()) or 'none'}")
    for kind in sorted(problems.counts):
        typer.echo(f"{problems.counts[kind]:>9}  {kind.value}")
        for example in problems.examples[kind]:
            typer.echo(f"           {example if example.isprintable() else ascii(example)}")
