"""One serving process of `mediavault serve`: runs the server, and prints the start message once it listens."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import NoReturn

import typer

from app import __version__
from app.api.http.connections import create_connection_registry
from app.api.http.server import DrainingServer
from app.catalog.database.locations import SqliteLocation, parse_url
from app.cli.first_run import FIRST_USER, SIGN_IN_MINUTES, create_sign_in_token
from app.cli.metrics_listener import MetricsListener
from app.cli.process_supervisor import ServingProcess
from app.config import Settings, StorageEngine
from app.main import create_app

FAILED_START = 3
"""The exit status of a service that could not start."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says, and what was made before the start. `first_key`: the API key of a user that was just created, to print.
    `metrics`: what all processes share for their metrics, if these are exported."""

    sockets: list[socket.socket]
    metrics: MetricsListener | None
    first_run: bool
    first_key: str | None
    adopt: bool
    worker: bool


def run_server(settings: Settings, options: ServeOptions, process: ServingProcess | None = None) -> int:
    """Serves until a signal ends it. Returns the exit status. `process`: which one of several processes this is; the first one prints, and
    only number 0 works on tasks: the slots for tasks are those of the host."""
    is_first = process is None or process.is_first
    metrics = options.metrics.create_metrics(process) if options.metrics is not None else None
    app = create_app(
        settings,
        process_tasks=options.worker and (process is None or process.slot == 0),
        adopt_markers=options.adopt and is_first,
        metrics=metrics,
    )
    registry = create_connection_registry(settings, app.refusal_log)
    metrics_server = AsyncExitStack()  # open until the process ends: metrics are answered during the drain, too

    async def begin_serving() -> None:
        if options.metrics is not None and metrics is not None:
            await metrics_server.enter_async_context(
                options.metrics.serving(metrics, app.services.installation_metrics, registry)
            )
        if is_first:
            catalog = app.services.catalog
            users = await catalog.users.count()
            token = await create_sign_in_token(catalog) if options.first_run else None
            typer.echo("\n".join(_format_start_message(settings, users, token, options.first_key)))

    def end() -> NoReturn:
        if metrics is not None:
            metrics.flush()
        _exit(0)

    server = DrainingServer(
        app,
        registry,
        drain_delay=settings.drain_delay,
        drain_seconds=settings.drain_seconds,
        on_started=begin_serving,
        on_stopped=end,
        supervisor=process.channel if process is not None else None,
    )
    with contextlib.suppress(SystemExit):  # raised by a failed start
        server.run(options.sockets)
    if server.started:
        return 0
    if options.first_key is not None and is_first:
        typer.echo(_format_key_line(options.first_key))
    typer.echo(f"mediavault: {app.start_failure or 'does not start'}", err=True)
    return FAILED_START


def _exit(status: int) -> NoReturn:
    """Ends the process without waiting for its threads, which may hang on a dead disk."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _format_start_message(
    settings: Settings, users: int, sign_in_token: str | None, first_key: str | None
) -> Iterator[str]:
    """The lines to print after a start."""
    address = settings.public_url or _format_address(settings)
    if sign_in_token is not None:
        yield f"Open this address to sign in; it works once, within {SIGN_IN_MINUTES} minutes:"
        yield f"{address}/#signin={sign_in_token}"
    yield f"mediavault {__version__} listens on {address}"
    yield f"API page: {address}/docs"
    if first_key is not None:
        yield f"User: {FIRST_USER}, made now. The key is shown only this once:"
        yield _format_key_line(first_key)
    elif users:
        yield f"Users: {users}"
    else:
        yield "Users: none yet. Add one: mediavault user add ADDRESS --admin; then make a key: mediavault key add ADDRESS"
    yield f"Data: {_describe_media(settings)}, {_describe_catalog(settings)}"
    main_process = os.getpid() if settings.process_count == 1 else os.getppid()
    yield f"Stop: Ctrl-C, or SIGTERM to process {main_process}"


def _format_key_line(key: str) -> str:
    return f"API key: {key}"


def _format_address(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _describe_media(settings: Settings) -> str:
    if settings.storage_engine is StorageEngine.S3:
        return f"media in s3://{settings.s3_bucket}/{settings.s3_prefix}"
    return f"media in {settings.media_location}"


def _describe_catalog(settings: Settings) -> str:
    """The path of an SQLite file. The address of PostgreSQL is not shown: it may hold a password."""
    location = parse_url(settings.db_url.get_secret_value())
    return f"catalogue in {location.path}" if isinstance(location, SqliteLocation) else "catalogue in PostgreSQL"
