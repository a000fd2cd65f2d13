"""The commands that work on tasks, or have them worked on again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from app.catalog.records import TaskKind
from app.cli.loading import loading
from app.cli.running import fail, settings_for_rooms, settings_or_exit
from app.config import Settings

LOOK_SECONDS = 0.5


def work() -> None:
    """Make thumbnails and playable video until told to stop. With PostgreSQL as many of these as wanted, on any number of hosts."""
    settings = settings_or_exit()

    with loading():
        import structlog  # noqa: PLC0415 - what only this needs

        from app.api.log import configure_logging  # noqa: PLC0415
        from app.opening import open_ground  # noqa: PLC0415

    configure_logging(settings.log_level, settings.log_format)

    async def until_stopped() -> None:
        stopped = asyncio.Event()
        for told in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(told, stopped.set)
        async with open_ground(settings, work=True):
            structlog.get_logger(__name__).info("the worker is ready")
            await stopped.wait()

    _until_done(until_stopped)


def process(
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
    settings = settings_for_rooms()
    kinds = kind or list(TaskKind)

    async def request() -> None:
        await _process(settings, kinds, remake=everything, wait=wait)

    _until_done(request)


def _until_done(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import uvloop  # noqa: PLC0415

    from app.catalog.errors import CatalogError  # noqa: PLC0415
    from app.opening import StartRefused  # noqa: PLC0415

    try:
        with suppress(KeyboardInterrupt):
            uvloop.run(main())
    except StartRefused as error:
        fail(str(error), status=3)
    except CatalogError as error:
        fail(f"DB_URL: {error}")


async def _process(settings: Settings, kinds: Sequence[TaskKind], *, remake: bool, wait: bool) -> None:
    from app.cli.progress import progress_of  # noqa: PLC0415
    from app.opening import open_ground  # noqa: PLC0415

    async with open_ground(settings, work=wait and _is_sqlite(settings)) as ground:
        tasks = ground.catalog.tasks
        requested = 0
        with progress_of("requested") as show:
            async for count in ground.jobs.request(kinds, remake=remake):
                requested += count
                show(requested, None)
        if not wait or not requested:
            typer.echo(f"{requested} requested")
            return
        with progress_of("processed") as show:
            while left := await tasks.outstanding(kinds):
                show(max(requested - left, 0), requested)
                await asyncio.sleep(LOOK_SECONDS)
            show(requested, requested)
        counts = await tasks.counts()
        failed = sum(counts[kind].failed for kind in kinds)
        typer.echo(f"{requested} processed" + (f"; {failed} have failed, see GET /api/jobs" if failed else ""))


def _is_sqlite(settings: Settings) -> bool:
    return settings.db_url.get_secret_value().startswith("sqlite")
