"""`mediavault migrate`: moving a library between disk and S3. Thin: each command opens catalogue and storage, calls
`app.migration` and prints what it reports. Exit status: 0 when all is well, 1 when problems are left, 2 when it was refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from app.catalog.catalog import Catalog
from app.catalog.move_records import MoveFilters
from app.catalog.records import FileKind
from app.cli.moving_progress import shown, size_text, time_text
from app.cli.running import fail, print_table, run, settings_or_exit, with_catalog
from app.config import Settings, StorageEngine

if TYPE_CHECKING:
    from app.migration.planning import Plan
    from app.migration.reports import Problems, Report
    from app.migration.work import Work

T = TypeVar("T")

migrate_cli = typer.Typer(no_args_is_help=True, help="Move the library between disk and S3 (docs/moving.md).")

PROBLEMS_LEFT = 1
SHOWN_PROBLEMS = 50

To = Annotated[StorageEngine, typer.Option("--to", help="Where the files go.")]
User = Annotated[str | None, typer.Option("--user", help="Only this user's files: an address or an id.")]
Kinds = Annotated[list[FileKind] | None, typer.Option("--kind", help="Only files of this kind. Repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and no progress.")]
Concurrency = Annotated[
    int, typer.Option("--concurrency", help="Files at a time, at most MEDIAVAULT_S3_CONNECTIONS.", min=1, max=256)
]
Verify = Annotated[
    str,
    typer.Option(
        "--verify",
        help="readback: read every byte of the copy. checksum: compare with what the store computed. auto: checksum where there is one.",
    ),
]
Bandwidth = Annotated[
    str | None,
    typer.Option(
        "--bandwidth",
        help="Most bytes per second of the copies, such as 500K, 20M or 1G. What is read back of them is not counted.",
    ),
]


@migrate_cli.command()
def plan(
    to: To,
    user: User = None,
    kind: Kinds = None,
    concurrency: Concurrency = 8,
    bandwidth: Bandwidth = None,
    verify: Verify = "auto",
    as_json: Json = False,
) -> None:
    """How much there is to move, and what is wrong with it. Changes nothing."""
    options = {"concurrency": concurrency, "bandwidth": _rate(bandwidth), "method": _method(verify)}
    _plan(to, user, kind, options, as_json=as_json)


@migrate_cli.command("run")
def run_(
    to: To,
    user: User = None,
    kind: Kinds = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only what `plan` does.")] = False,
    concurrency: Concurrency = 8,
    bandwidth: Bandwidth = None,
    verify: Verify = "auto",
    as_json: Json = False,
) -> None:
    """Copy and verify all that is not at the target yet. Can be stopped and run again at any time."""
    from app.migration import running  # noqa: PLC0415 - what stands on storage takes long to import

    options = {"concurrency": concurrency, "bandwidth": _rate(bandwidth), "method": _method(verify)}
    if dry_run:
        _plan(to, user, kind, options, as_json=as_json)
        return
    _finish(_with_work(to, user, kind, options, running.run, quiet=as_json), as_json=as_json)


@migrate_cli.command()
def status(to: To, user: User = None, kind: Kinds = None, as_json: Json = False) -> None:
    """How far the latest move has come."""
    from app.migration.status import status as work_status  # noqa: PLC0415

    _finish(_with_work(to, user, kind, {}, work_status, quiet=True), as_json=as_json)


@migrate_cli.command()
def switch(to: To, user: User = None, kind: Kinds = None, as_json: Json = False) -> None:
    """Let the verified copies be the files. The sources stay until `cleanup`, so `rollback` can undo it."""
    from app.migration import switching  # noqa: PLC0415

    _finish(_with_work(to, user, kind, {}, switching.switch, quiet=as_json), as_json=as_json)


@migrate_cli.command()
def rollback(
    to: To, user: User = None, kind: Kinds = None, concurrency: Concurrency = 8, as_json: Json = False
) -> None:
    """Go back to the sources, as far as they have not been cleaned up, and give the copies up. `--to` is where the move went."""
    from app.migration.resting import rest_at  # noqa: PLC0415
    from app.migration.rollback import rollback as go_back  # noqa: PLC0415

    rest = rest_at(to, settings_or_exit())
    options = {"concurrency": concurrency}
    _finish(_with_work(to, user, kind, options, lambda work: go_back(work, rest=rest), quiet=as_json), as_json=as_json)


@migrate_cli.command()
def cleanup(
    to: To,
    user: User = None,
    kind: Kinds = None,
    concurrency: Concurrency = 8,
    verify: Verify = "auto",
    as_json: Json = False,
) -> None:
    """Remove the sources of what was switched, each after its copy was checked once more. Waits until nobody can still be reading them."""
    from app.migration.cleanup import cleanup as clean  # noqa: PLC0415
    from app.migration.resting import rest_at  # noqa: PLC0415

    rest = rest_at(_other(to), settings_or_exit())
    options = {"concurrency": concurrency, "method": _method(verify)}
    _finish(_with_work(to, user, kind, options, lambda work: clean(work, rest=rest), quiet=as_json), as_json=as_json)


def _plan(
    to: StorageEngine, user: str | None, kinds: list[FileKind] | None, options: dict[str, Any], *, as_json: bool
) -> None:
    from app.migration import planning  # noqa: PLC0415

    made: Plan = _with_work(to, user, kinds, options, planning.plan, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(_plan_value(to, made)))
    else:
        _print_plan(to, made)
    raise typer.Exit(PROBLEMS_LEFT if made.problems.count else 0)


def _with_work(
    to: StorageEngine,
    user: str | None,
    kinds: list[FileKind] | None,
    options: dict[str, Any],
    act: Callable[[Work], Awaitable[T]],
    *,
    quiet: bool,
) -> T:
    """Catalogue and storage opened, `act` done, both closed again. What refuses it is one line and ends the command."""
    from app.migration.route import MEDIA_MISSING, MoveRefused, find_route  # noqa: PLC0415
    from app.migration.work import Work  # noqa: PLC0415
    from app.storage.errors import StorageError  # noqa: PLC0415
    from app.storage.service import open_storage  # noqa: PLC0415

    settings = settings_or_exit()
    _log_nothing(settings)
    if not settings.media_location.is_dir():
        fail(MEDIA_MISSING)  # opened as the place of new files, it would be made

    async def with_storage(catalog: Catalog) -> T:
        try:
            storage = await open_storage(settings)
        except StorageError as error:
            fail(f"the media location cannot be opened: {error}")
        try:
            with shown(quiet=quiet) as progress:
                work = Work(catalog, storage, find_route(storage, to), progress=progress)
                filters = MoveFilters(await _owner(catalog, user), tuple(kinds) if kinds else None)
                work = replace(work, filters=filters, **options)
                # More would wait for each other's connections, and take that for a store that does not answer.
                return await act(replace(work, concurrency=min(work.concurrency, settings.s3_connections)))
        except MoveRefused as refusal:
            fail(str(refusal))
        finally:
            await storage.aclose()

    return run(with_catalog(settings, with_storage))


async def _owner(catalog: Catalog, named: str | None) -> UUID | None:
    if named is None:
        return None
    found = await catalog.users.by_email(named)
    if found is None:
        try:
            found = await catalog.users.get(UUID(named))
        except ValueError:
            found = None
    if found is None:
        fail(f"there is no user {named}")
    return found.id


def _finish(report: Report, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_report_value(report)))
    else:
        _print_report(report)
    raise typer.Exit(PROBLEMS_LEFT if report.problems.count else 0)


def _print_plan(to: StorageEngine, plan: Plan) -> None:
    typer.echo(f"to {to}: {plan.files} files, {size_text(plan.bytes)}, about {time_text(plan.seconds)}")
    if plan.copied_files:
        typer.echo(f"copied already: {plan.copied_files} files")
    if plan.by_kind:
        kinds = sorted(plan.by_kind.items())
        print_table(("kind", "files", "bytes"), ((k, str(n), size_text(size)) for k, (n, size) in kinds))
    _print_problems(plan.problems)
    for note in plan.notes:
        typer.echo(note)


def _print_report(report: Report) -> None:
    if report.command != "status":
        rate = f", {size_text(report.bytes / report.seconds)}/s" if report.command == "run" and report.seconds else ""
        typer.echo(
            f"{report.command}: {report.files} files, {size_text(report.bytes)} in {time_text(report.seconds)}{rate}"
        )
    elif report.migration:
        finished = report.migration.finished_at
        since = f"finished {finished:%Y-%m-%d %H:%M} UTC" if finished else "under way"
        typer.echo(f"to {report.migration.target}: begun {report.migration.created_at:%Y-%m-%d %H:%M} UTC, {since}")
    if report.tallies:
        rows = ((t.state, str(t.files), size_text(t.bytes), str(t.problems or "")) for t in report.tallies)
        print_table(("state", "files", "bytes", "problems"), rows)
    _print_problems(report.problems)
    for note in report.notes:
        typer.echo(note)


def _print_problems(problems: Problems) -> None:
    if not problems.count:
        return
    typer.echo(f"problems: {problems.count}")
    for named in problems.named[:SHOWN_PROBLEMS]:
        typer.echo(f"  {named.path}: {named.problem}")
    if problems.count > SHOWN_PROBLEMS:
        typer.echo(f"  … and {problems.count - SHOWN_PROBLEMS} more (--json names up to 1000)")


def _plan_value(to: StorageEngine, plan: Plan) -> dict[str, Any]:
    return {
        "command": "plan",
        "target": to.value,
        "files": plan.files,
        "bytes": plan.bytes,
        "copiedFiles": plan.copied_files,
        "seconds": round(plan.seconds, 1),
        "byKind": {kind.value: {"files": files, "bytes": size} for kind, (files, size) in plan.by_kind.items()},
        **_problems_value(plan.problems),
        "notes": list(plan.notes),
    }


def _report_value(report: Report) -> dict[str, Any]:
    migration = report.migration
    return {
        "command": report.command,
        "target": migration.target.value if migration else None,
        "begunAt": migration.created_at.isoformat() if migration else None,
        "finishedAt": migration.finished_at.isoformat() if migration and migration.finished_at else None,
        "files": report.files,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "states": {t.state.value: {"files": t.files, "bytes": t.bytes, "problems": t.problems} for t in report.tallies},
        **_problems_value(report.problems),
        "notes": list(report.notes),
    }


def _problems_value(problems: Problems) -> dict[str, Any]:
    named = [{"path": named.path, "problem": named.problem} for named in problems.named]
    return {"problemCount": problems.count, "problems": named}


def _method(name: str) -> Any:
    from app.migration.verification import Method  # noqa: PLC0415

    try:
        return Method(name)
    except ValueError:
        fail(f"--verify: {name!r} is none of {', '.join(Method)}")


def _rate(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,12})([KMG]?)", text, re.IGNORECASE)
    rate = int(match[1]) * 1024 ** " KMG".index(match[2].upper() or " ") if match else 0
    if not rate:
        fail(f"--bandwidth: {text!r} is no number of bytes per second, such as 500K, 20M or 1G")
    return rate


def _other(to: StorageEngine) -> StorageEngine:
    return StorageEngine.LOCAL if to is StorageEngine.S3 else StorageEngine.S3


def _log_nothing(settings: Settings) -> None:
    """What goes wrong is in the report, or refuses the command."""
    from app.api.log import configure_logging  # noqa: PLC0415
    from app.config import LogLevel  # noqa: PLC0415

    configure_logging(LogLevel.FATAL, settings.log_format)
