"""`mediavault serve`: runs the service, and prints addresses, users and data locations once it has started.

Modules that only `serve` needs are imported inside it, since that takes most of a second.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app import __version__
from app.api.http.sockets import open_listening_sockets
from app.catalog.database.engine import SqliteLocation, parse_url
from app.cli.command_runner import call_with_catalog, fail, load_settings_or_exit, run_command
from app.cli.fast_imports import import_without_gc
from app.cli.first_run import FIRST_USER, SIGN_IN_MINUTES, create_first_user, create_sign_in_token
from app.config import Settings, SettingsError, StorageEngine

if TYPE_CHECKING:
    from app.cli.process_supervisor import ServingProcess

SPARE_DESCRIPTORS = 1024
FAILED_START = 3
"""The exit status of a service that could not start."""


def serve(
    first_run: Annotated[
        bool,
        typer.Option(
            "--first-run",
            help="Make the first user and key if there is no user yet; print the key, and an address that signs in.",
        ),
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take the media location over, whatever its markers say.")
    ] = False,
    worker: Annotated[
        bool,
        typer.Option("--worker/--no-worker", help="Also make thumbnails and playable video, or leave it to workers."),
    ] = True,
    processes: Annotated[
        str | None, typer.Option("--processes", help="How many processes serve, or auto (MEDIAVAULT_PROCESSES).")
    ] = None,
) -> None:
    """Run the service until it is told to stop."""
    if processes is not None:
        os.environ["MEDIAVAULT_PROCESSES"] = (
            processes  # also for the processes that SIGHUP starts, which read the settings anew
        )
    settings = load_settings_or_exit()
    _raise_descriptor_limit(2 * settings.connections + SPARE_DESCRIPTORS)
    sockets = _open_sockets(settings)
    with import_without_gc():
        from app.api.http.server import DrainingServer  # noqa: F401, PLC0415 - see above; before the fork
        from app.api.logging_setup import configure_logging  # noqa: PLC0415
        from app.cli.process_supervisor import ProcessSupervisor  # noqa: PLC0415
        from app.main import create_app  # noqa: F401, PLC0415

    configure_logging(settings.log_level, settings.log_format)
    first_key = run_command(call_with_catalog(settings, create_first_user)) if first_run else None
    options = _ServeOptions(sockets, first_run, first_key, adopt=adopt, worker=worker)
    if settings.process_count == 1:
        status = _run_server(settings, options)
    else:

        def serve_in_process(process: ServingProcess) -> int:
            try:
                current = settings if process.is_first else load_settings_or_exit()
            except typer.Exit as invalid:
                return invalid.exit_code
            return _run_server(current, options, process)

        status = ProcessSupervisor(
            settings.process_count, serve_in_process, sockets, drain_delay=settings.drain_delay
        ).run()
    if status:
        raise typer.Exit(status)


def _exit(status: int) -> NoReturn:
    """Ends the process without waiting for its threads, which may hang on a dead disk."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@dataclass(frozen=True, slots=True)
class _ServeOptions:
    """What the command line says, and what was made before the start. `first_key`: the API key of a user that was just created, to print."""

    sockets: list[socket.socket]
    first_run: bool
    first_key: str | None
    adopt: bool
    worker: bool


def _run_server(settings: Settings, options: _ServeOptions, process: ServingProcess | None = None) -> int:
    """Serves until a signal ends it. Returns the exit status. `process`: which one of several processes this is; the first one prints, and
    only number 0 works on tasks: the slots for tasks are those of the host."""
    from app.api.http.connections import create_connection_registry  # noqa: PLC0415 - see above
    from app.api.http.server import DrainingServer  # noqa: PLC0415
    from app.main import create_app  # noqa: PLC0415

    is_first = process is None or process.is_first
    app = create_app(
        settings,
        process_tasks=options.worker and (process is None or process.slot == 0),
        adopt_markers=options.adopt and is_first,
    )

    async def print_start_message() -> None:
        if is_first:
            catalog = app.services.catalog
            users = await catalog.users.count()
            token = await create_sign_in_token(catalog) if options.first_run else None
            typer.echo("\n".join(_format_start_message(settings, users, token, options.first_key)))

    server = DrainingServer(
        app,
        create_connection_registry(settings, app.refusal_log),
        drain_delay=settings.drain_delay,
        drain_seconds=settings.drain_seconds,
        on_started=print_start_message,
        on_stopped=partial(_exit, 0),
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


def _open_sockets(settings: Settings) -> list[socket.socket]:
    try:
        return open_listening_sockets(settings.host, settings.port)
    except SettingsError as error:
        fail(str(error))


def _raise_descriptor_limit(needed: int) -> None:
    """Raises the limit of open files towards `needed`. Each download uses two descriptors (socket and file), and the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if resource.RLIM_INFINITY != soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


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
