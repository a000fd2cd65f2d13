"""`mediavault serve`: runs the service, and prints addresses, users and data locations once it has started.

Modules that only `serve` needs are imported inside it, since that takes most of a second.
"""

from __future__ import annotations

import os
import resource
import socket
from typing import Annotated

import typer

from app.api.http.sockets import open_listening_sockets
from app.cli.command_runner import call_with_catalog, fail, load_settings_or_exit, run_command
from app.cli.fast_imports import import_without_gc
from app.cli.first_run import create_first_user
from app.config import Settings, SettingsError

SPARE_DESCRIPTORS = 1024


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
        # In the environment, because the processes that SIGHUP starts read the settings anew.
        os.environ["MEDIAVAULT_PROCESSES"] = processes
    settings = load_settings_or_exit()
    _raise_descriptor_limit(2 * settings.connections + SPARE_DESCRIPTORS)
    sockets = _open_sockets(settings)
    with import_without_gc():
        from app.api.logging_setup import configure_logging  # noqa: PLC0415 - see above
        from app.cli.metrics_listener import open_metrics_listener  # noqa: PLC0415
        from app.cli.process_supervisor import ProcessSupervisor, ServingProcess  # noqa: PLC0415
        from app.cli.server_process import ServeOptions, run_server  # noqa: PLC0415

    configure_logging(settings.log_level, settings.log_format)
    try:
        metrics = open_metrics_listener(
            settings, settings.metrics_port, "MEDIAVAULT_METRICS_PORT", settings.process_count
        )
    except SettingsError as error:
        fail(str(error))
    first_key = run_command(call_with_catalog(settings, create_first_user)) if first_run else None
    options = ServeOptions(sockets, metrics, first_run, first_key, adopt=adopt, worker=worker)
    if settings.process_count == 1:
        status = run_server(settings, options)
    else:

        def serve_in_process(process: ServingProcess) -> int:
            try:
                current = settings if process.is_first else load_settings_or_exit()
            except typer.Exit as invalid:
                return invalid.exit_code
            return run_server(current, options, process)

        status = ProcessSupervisor(
            settings.process_count,
            serve_in_process,
            sockets,
            drain_delay=settings.drain_delay,
            segments=metrics.segments if metrics is not None else None,
        ).run()
    if status:
        raise typer.Exit(status)


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
