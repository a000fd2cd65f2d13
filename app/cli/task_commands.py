"""`mediavault worker` and `mediavault process`: run background tasks, and request them again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from app.catalog.schema.records import TaskKind
from app.cli.command_runner import fail, load_settings_or_exit, load_settings_with_logging
from app.cli.fast_imports import import_without_gc
from app.config import Settings, SettingsError

LOOK_SECONDS = 0.5


def run_worker() -> None:
    """Make thumbnails and playable video until told to stop. With PostgreSQL as many of these as wanted, on any number of hosts."""
    settings = load_settings_or_exit()

    with import_without_gc():
        import structlog  # noqa: PLC0415 - slow to import

        from app.api.logging_setup import configure_logging  # noqa: PLC0415
        from app.cli.worker_metrics import open_worker_metrics, serving_worker_metrics  # noqa: PLC0415
        from app.startup import open_core_services  # noqa: PLC0415

    configure_logging(settings.log_level, settings.log_format)
    try:
        listener = open_worker_metrics(settings)
    except SettingsError as error:
        fail(str(error))

    async def until_stopped() -> None:
        stopped = asyncio.Event()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal_number, stopped.set)
        metrics = listener.create_metrics() if listener is not None else None
        async with (
            open_core_services(settings, process_tasks=True, metrics=metrics) as services,
            serving_worker_metrics(listener, metrics, services),
        ):
            structlog.get_logger(__name__).info("the worker is ready")
            await stopped.wait()

    _run_to_end(until_stopped)


def process_assets(
    missing: Annotated[
        bool,
        typer.Option(
            "--missing", help="What lacks something, has failed or waits for another attempt; so it is without --all."
        ),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything is made again, and takes the place of what is there.")
    ] = False,
    kind: Annotated[list[TaskKind] | None, typer.Option(help="Only these; repeatable. Both without it.")] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Show the progress until all is done; it goes on without that, too."),
    ] = True,
) -> None:
    """Have thumbnails and playable video made again. Workers do it; with SQLite this process, unless the service runs."""
    if missing and everything:
        fail("--missing and --all exclude each other")
    settings = load_settings_with_logging()
    kinds = kind or list(TaskKind)

    async def request() -> None:
        await _request_and_wait(settings, kinds, remake=everything, wait=wait)

    _run_to_end(request)


def _run_to_end(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import uvloop  # noqa: PLC0415

    from app.catalog.errors import CatalogError  # noqa: PLC0415
    from app.startup import StartupError  # noqa: PLC0415

    try:
        with suppress(KeyboardInterrupt):
            uvloop.run(main())
    except StartupError as error:
        fail(str(error), status=3)
    except CatalogError as error:
        fail(f"DB_URL: {error}")


async def _request_and_wait(settings: Settings, kinds: Sequence[TaskKind], *, remake: bool, wait: bool) -> None:
    from app.cli.task_progress import show_task_progress  # noqa: PLC0415
    from app.startup import open_core_services  # noqa: PLC0415

    async with open_core_services(settings, process_tasks=wait and _is_sqlite(settings)) as services:
        tasks = services.catalog.tasks
        requested = 0
        with show_task_progress("requested") as show:
            async for count in services.jobs.request_all(kinds, remake=remake):
                requested += count
                show(requested, None)
        if not wait or not requested:
            typer.echo(f"{requested} requested")
            return
        with show_task_progress("processed") as show:
            while outstanding := await tasks.count_outstanding(kinds):
                show(max(requested - outstanding, 0), requested)
                await asyncio.sleep(LOOK_SECONDS)
            show(requested, requested)
        counts = await tasks.count_by_kind()
        failed = sum(counts[kind].failed for kind in kinds)
        typer.echo(f"{requested} processed" + (f"; {failed} have failed, see GET /api/jobs" if failed else ""))


def _is_sqlite(settings: Settings) -> bool:
    return settings.db_url.get_secret_value().startswith("sqlite")
