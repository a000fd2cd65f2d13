"""`mediavault migrate`: moves managed files between disk and S3.

Each command opens catalogue and storage, calls `app.migration`, and prints its report. Exit status: 0 no problems, 1 problems are left,
2 the command was refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.catalog.catalog import Catalog
from app.catalog.schema.move_records import MoveFilters
from app.catalog.schema.records import FileKind
from app.cli.command_runner import call_with_catalog, fail, find_user, load_settings_or_exit, print_table, run_command
from app.cli.move_progress import format_duration, format_size, show_move_progress
from app.config import Settings, StorageEngine

if TYPE_CHECKING:
    from app.migration.migration_context import MigrationContext
    from app.migration.reports import MoveReport, ProblemList
    from app.migration.steps.plan_step import MovePlan

T = TypeVar("T")

migrate_cli = typer.Typer(no_args_is_help=True, help="Move the library between disk and S3 (docs/moving.md).")

PROBLEMS_LEFT = 1
SHOWN_PROBLEMS = 50

TargetOption = Annotated[StorageEngine, typer.Option("--to", help="Where the files go.")]
UserOption = Annotated[str | None, typer.Option("--user", help="Only this user's files: an address or an id.")]
KindsOption = Annotated[list[FileKind] | None, typer.Option("--kind", help="Only files of this kind. Repeatable.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, and no progress.")]
ConcurrencyOption = Annotated[
    int, typer.Option("--concurrency", help="Files at a time, at most MEDIAVAULT_S3_CONNECTIONS.", min=1, max=256)
]
VerifyOption = Annotated[
    str,
    typer.Option(
        "--verify",
        help="readback: read every byte of the copy. checksum: compare with what the store computed. auto: checksum where there is one.",
    ),
]
BandwidthOption = Annotated[
    str | None,
    typer.Option(
        "--bandwidth",
        help="Most bytes per second of the copies, such as 500K, 20M or 1G. What is read back of them is not counted.",
    ),
]


@migrate_cli.command()
def plan(
    to: TargetOption,
    user: UserOption = None,
    kind: KindsOption = None,
    concurrency: ConcurrencyOption = 8,
    bandwidth: BandwidthOption = None,
    verify: VerifyOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """How much there is to move, and what is wrong with it. Changes nothing."""
    options = {
        "concurrency": concurrency,
        "bandwidth": _parse_bandwidth(bandwidth),
        "method": _parse_verify_method(verify),
    }
    _run_plan(to, user, kind, options, as_json=as_json)


@migrate_cli.command("run")
def migrate_run(
    to: TargetOption,
    user: UserOption = None,
    kind: KindsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only what `plan` does.")] = False,
    concurrency: ConcurrencyOption = 8,
    bandwidth: BandwidthOption = None,
    verify: VerifyOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Copy and verify all that is not at the target yet. Can be stopped and run again at any time."""
    from app.migration.steps import run_step  # noqa: PLC0415 - slow to import

    options = {
        "concurrency": concurrency,
        "bandwidth": _parse_bandwidth(bandwidth),
        "method": _parse_verify_method(verify),
    }
    if dry_run:
        _run_plan(to, user, kind, options, as_json=as_json)
        return
    _print_and_exit(_run_with_context(to, user, kind, options, run_step.run_move, quiet=as_json), as_json=as_json)


@migrate_cli.command()
def status(to: TargetOption, user: UserOption = None, kind: KindsOption = None, as_json: JsonOption = False) -> None:
    """How far the latest move has come."""
    from app.migration.steps.status_step import report_move_status  # noqa: PLC0415

    _print_and_exit(_run_with_context(to, user, kind, {}, report_move_status, quiet=True), as_json=as_json)


@migrate_cli.command()
def switch(to: TargetOption, user: UserOption = None, kind: KindsOption = None, as_json: JsonOption = False) -> None:
    """Let the verified copies be the files. The sources stay until `cleanup`, so `rollback` can undo it."""
    from app.migration.steps import switch_step  # noqa: PLC0415

    _print_and_exit(_run_with_context(to, user, kind, {}, switch_step.switch_move, quiet=as_json), as_json=as_json)


@migrate_cli.command()
def rollback(
    to: TargetOption,
    user: UserOption = None,
    kind: KindsOption = None,
    concurrency: ConcurrencyOption = 8,
    as_json: JsonOption = False,
) -> None:
    """Go back to the sources, as far as they have not been cleaned up, and give the copies up. `--to` is where the move went."""
    from app.migration.source_retention import choose_source_retention  # noqa: PLC0415
    from app.migration.steps.rollback_step import roll_back_move  # noqa: PLC0415

    retention = choose_source_retention(to, load_settings_or_exit())
    options = {"concurrency": concurrency}
    _print_and_exit(
        _run_with_context(
            to, user, kind, options, lambda context: roll_back_move(context, retention=retention), quiet=as_json
        ),
        as_json=as_json,
    )


@migrate_cli.command()
def cleanup(
    to: TargetOption,
    user: UserOption = None,
    kind: KindsOption = None,
    concurrency: ConcurrencyOption = 8,
    verify: VerifyOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Remove the sources of what was switched, each after its copy was checked once more. Waits until nobody can still be reading them."""
    from app.migration.source_retention import choose_source_retention  # noqa: PLC0415
    from app.migration.steps.cleanup_step import clean_up_move  # noqa: PLC0415

    retention = choose_source_retention(_opposite_engine(to), load_settings_or_exit())
    options = {"concurrency": concurrency, "method": _parse_verify_method(verify)}
    _print_and_exit(
        _run_with_context(
            to, user, kind, options, lambda context: clean_up_move(context, retention=retention), quiet=as_json
        ),
        as_json=as_json,
    )


def _run_plan(
    to: StorageEngine, user: str | None, kinds: list[FileKind] | None, options: dict[str, Any], *, as_json: bool
) -> None:
    from app.migration.steps import plan_step  # noqa: PLC0415

    plan: MovePlan = _run_with_context(to, user, kinds, options, plan_step.plan_move, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(_plan_to_json(to, plan)))
    else:
        _print_plan(to, plan)
    raise typer.Exit(PROBLEMS_LEFT if plan.problems.count else 0)


def _run_with_context(
    to: StorageEngine,
    user: str | None,
    kinds: list[FileKind] | None,
    options: dict[str, Any],
    act: Callable[[MigrationContext], Awaitable[T]],
    *,
    quiet: bool,
) -> T:
    """Opens catalogue and storage, returns the result of `act`, and closes both. A refusal ends the command with one line."""
    from app.health.foreign_roots import refuse_foreign_media_location  # noqa: PLC0415
    from app.health.media_folder import MountCheckFailed  # noqa: PLC0415
    from app.libraries.import_paths.link_roots import update_foreign_roots  # noqa: PLC0415
    from app.migration.migration_context import MigrationContext  # noqa: PLC0415
    from app.migration.source_and_target import MEDIA_MISSING, MoveRefused, find_route  # noqa: PLC0415
    from app.storage.errors import StorageError  # noqa: PLC0415
    from app.storage.opening import open_storage  # noqa: PLC0415

    settings = load_settings_or_exit()
    _silence_logging(settings)
    if not settings.media_location.is_dir():
        fail(MEDIA_MISSING)  # `open_storage` would create it

    async def with_storage(catalog: Catalog) -> T:
        try:
            await refuse_foreign_media_location(catalog, settings.media_location)
            storage = await open_storage(settings)
        except MountCheckFailed as error:
            fail(str(error))
        except StorageError as error:
            fail(f"the media location cannot be opened: {error}")
        try:
            await update_foreign_roots(catalog, storage)
            with show_move_progress(quiet=quiet) as progress:
                context = MigrationContext(catalog, storage, find_route(storage, to), progress=progress)
                owner_id = None if user is None else (await find_user(catalog, user)).id
                filters = MoveFilters(owner_id, tuple(kinds) if kinds else None)
                context = replace(context, filters=filters, **options)
                # More copies than connections would wait for each other, and time out as if the store did not answer.
                return await act(replace(context, concurrency=min(context.concurrency, settings.s3_connections)))
        except MoveRefused as refusal:
            fail(str(refusal))
        finally:
            await storage.aclose()

    return run_command(call_with_catalog(settings, with_storage))


def _print_and_exit(report: MoveReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_report_to_json(report)))
    else:
        _print_report(report)
    raise typer.Exit(PROBLEMS_LEFT if report.problems.count else 0)


def _print_plan(to: StorageEngine, plan: MovePlan) -> None:
    typer.echo(f"to {to}: {plan.files} files, {format_size(plan.bytes)}, about {format_duration(plan.seconds)}")
    if plan.copied_files:
        typer.echo(f"copied already: {plan.copied_files} files")
    if plan.by_kind:
        kinds = sorted(plan.by_kind.items())
        print_table(("kind", "files", "bytes"), ((k, str(n), format_size(size)) for k, (n, size) in kinds))
    _print_problems(plan.problems)
    for note in plan.notes:
        typer.echo(note)


def _print_report(report: MoveReport) -> None:
    if report.command != "status":
        rate = f", {format_size(report.bytes / report.seconds)}/s" if report.command == "run" and report.seconds else ""
        typer.echo(
            f"{report.command}: {report.files} files, {format_size(report.bytes)} in {format_duration(report.seconds)}{rate}"
        )
    elif report.migration:
        finished = report.migration.finished_at
        since = f"finished {finished:%Y-%m-%d %H:%M} UTC" if finished else "under way"
        typer.echo(f"to {report.migration.target}: begun {report.migration.created_at:%Y-%m-%d %H:%M} UTC, {since}")
    if report.tallies:
        rows = ((t.state, str(t.files), format_size(t.bytes), str(t.problems or "")) for t in report.tallies)
        print_table(("state", "files", "bytes", "problems"), rows)
    _print_problems(report.problems)
    for note in report.notes:
        typer.echo(note)


def _print_problems(problems: ProblemList) -> None:
    if not problems.count:
        return
    typer.echo(f"problems: {problems.count}")
    for problem in problems.listed[:SHOWN_PROBLEMS]:
        typer.echo(f"  {problem.path}: {problem.problem}")
    if problems.count > SHOWN_PROBLEMS:
        typer.echo(f"  … and {problems.count - SHOWN_PROBLEMS} more (--json names up to 1000)")


def _plan_to_json(to: StorageEngine, plan: MovePlan) -> dict[str, Any]:
    return {
        "command": "plan",
        "target": to.value,
        "files": plan.files,
        "bytes": plan.bytes,
        "copiedFiles": plan.copied_files,
        "seconds": round(plan.seconds, 1),
        "byKind": {kind.value: {"files": files, "bytes": size} for kind, (files, size) in plan.by_kind.items()},
        **_problems_to_json(plan.problems),
        "notes": list(plan.notes),
    }


def _report_to_json(report: MoveReport) -> dict[str, Any]:
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
        **_problems_to_json(report.problems),
        "notes": list(report.notes),
    }


def _problems_to_json(problems: ProblemList) -> dict[str, Any]:
    listed = [{"path": each.path, "problem": each.problem} for each in problems.listed]
    return {"problemCount": problems.count, "problems": listed}


def _parse_verify_method(name: str) -> Any:
    from app.migration.copy_check import VerifyMethod  # noqa: PLC0415

    try:
        return VerifyMethod(name)
    except ValueError:
        fail(f"--verify: {name!r} is none of {', '.join(VerifyMethod)}")


def _parse_bandwidth(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,12})([KMG]?)", text, re.IGNORECASE)
    rate = int(match[1]) * 1024 ** " KMG".index(match[2].upper() or " ") if match else 0
    if not rate:
        fail(f"--bandwidth: {text!r} is no number of bytes per second, such as 500K, 20M or 1G")
    return rate


def _opposite_engine(to: StorageEngine) -> StorageEngine:
    return StorageEngine.LOCAL if to is StorageEngine.S3 else StorageEngine.S3


def _silence_logging(settings: Settings) -> None:
    """Errors are in the report, or end the command; logs would only repeat them."""
    from app.api.logging_setup import configure_logging  # noqa: PLC0415
    from app.config import LogLevel  # noqa: PLC0415

    configure_logging(LogLevel.FATAL, settings.log_format)
