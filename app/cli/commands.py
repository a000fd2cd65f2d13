"""The `mediavault` command: thin, calls the rooms. What only `serve` needs is imported there: it takes most of a second."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from typing import Annotated
from uuid import UUID

import typer

from app.api.credentials import hash_secret, new_secret
from app.api.listening import listen
from app.api.permissions import Permission
from app.catalog.catalog import Catalog
from app.catalog.records import User
from app.cli.backup import backup_cli
from app.cli.doctor import doctor
from app.cli.library import library_cli
from app.cli.loading import loading
from app.cli.migrate import migrate_cli
from app.cli.processing import process, work
from app.cli.running import fail, print_table, run, settings_for_rooms, settings_or_exit, with_catalog
from app.cli.verify import verify
from app.config import Settings, SettingsError

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
user_cli = typer.Typer(no_args_is_help=True, help="Who may use the service.")
key_cli = typer.Typer(no_args_is_help=True, help="API keys.")
db_cli = typer.Typer(no_args_is_help=True, help="The catalogue's tables.")
cli.command("worker")(work)
cli.command("process")(process)
cli.add_typer(user_cli, name="user")
cli.add_typer(key_cli, name="key")
cli.add_typer(db_cli, name="db")
cli.add_typer(library_cli, name="library")
cli.add_typer(migrate_cli, name="migrate")
cli.add_typer(backup_cli, name="backup")
cli.command()(verify)
cli.command()(doctor)

FIRST_USER = "admin@mediavault.local"
STOP_SECONDS = 10
BACKLOG = 2048
SPARE_DESCRIPTORS = 1024
NO_QUOTA = "none"
MAX_QUOTA = 2**63 - 1
"""What the catalogue can keep."""
PRIVATE = 0o077
"""Nobody else reads photos and password hashes: what is created is its owner's only."""


def main() -> None:
    """Entry point of the console script."""
    os.umask(PRIVATE)
    cli()


@cli.command()
def serve(
    first_run: Annotated[
        bool,
        typer.Option("--first-run", help="Make the first user and key if there is no user yet, and print the key."),
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take the media location over, whatever its markers say.")
    ] = False,
    worker: Annotated[
        bool,
        typer.Option("--worker/--no-worker", help="Also make thumbnails and playable video, or leave it to workers."),
    ] = True,
) -> None:
    """Run the service until it is told to stop."""
    settings = settings_or_exit()
    _allow_descriptors(2 * settings.connections + SPARE_DESCRIPTORS)
    sockets = _listen(settings)

    with loading():
        import uvicorn  # noqa: PLC0415 - see above

        from app.api.log import configure_logging  # noqa: PLC0415
        from app.api.protocol import Protocol  # noqa: PLC0415
        from app.main import create_app  # noqa: PLC0415

    configure_logging(settings.log_level, settings.log_format)
    if first_run:
        run(with_catalog(settings, _first_user))
        typer.echo(f"API page: {settings.public_url or _address(settings)}/docs")
    app = create_app(settings, work=worker, adopt=adopt)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=Protocol,
            ws="none",
            limit_concurrency=settings.connections,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    # Ctrl-C, which uvicorn raises again after its clean stop; SystemExit, with which it leaves a start that failed.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        server.run(sockets)
    if not server.started:
        fail(app.start_failure or "does not start", status=3)


@user_cli.command("add")
def user_add(
    email: Annotated[str, typer.Argument(help="The address that the user logs in with.")],
    name: Annotated[str, typer.Option(help="The name that is shown; the address without it.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May see everybody's figures.")] = False,
    quota: Annotated[
        int | None, typer.Option(help="Most bytes that the user's originals may take.", min=0, max=MAX_QUOTA)
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input; without it only keys work.")
    ] = False,
) -> None:
    """Add a user."""
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    if password_stdin and not password:
        fail("the password on standard input is empty")

    from app.api.passwords import Passwords  # noqa: PLC0415 - slow to import

    async def add(catalog: Catalog) -> User:
        password_hash = await Passwords().hash(password) if password else None
        return await catalog.users.create(
            email, name or email, is_admin=admin, quota=quota, password_hash=password_hash
        )

    typer.echo(run(with_catalog(settings_or_exit(), add)).id)


@user_cli.command("list")
def user_list() -> None:
    """List the users."""

    async def everyone(catalog: Catalog) -> list[User]:
        return await catalog.users.list()

    print_table(
        ("id", "email", "name", "admin", "used", "quota"),
        (
            (
                *(str(user.id), user.email, user.name, "yes" if user.is_admin else "", str(user.used)),
                "" if user.quota is None else str(user.quota),
            )
            for user in run(with_catalog(settings_or_exit(), everyone))
        ),
    )


@user_cli.command("quota")
def user_quota(
    email: Annotated[str, typer.Argument(help="Whose quota.")],
    quota: Annotated[str, typer.Argument(help="Most bytes that the user's originals may take, or `none`.")],
) -> None:
    """Change a user's quota. What is kept already stays, also where it is more."""
    size = None if quota == NO_QUOTA else int(quota) if quota.isascii() and quota.isdigit() else -1
    if size is not None and not 0 <= size <= MAX_QUOTA:
        fail(f"{quota!r} is neither a number of bytes nor `{NO_QUOTA}`")

    async def change(catalog: Catalog) -> None:
        user = await _user(catalog, email)
        await catalog.users.update(user.id, quota=size)

    run(with_catalog(settings_or_exit(), change))


@key_cli.command("add")
def key_add(
    email: Annotated[str, typer.Argument(help="Whose key it is.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "API key",
    permission: Annotated[
        list[Permission] | None, typer.Option(help="What it may do, by Immich's names; all without it. Repeatable.")
    ] = None,
) -> None:
    """Make an API key and print it; it is shown only now."""

    async def add(catalog: Catalog) -> str:
        user = await _user(catalog, email)
        return await _new_key(catalog, user, name, permission or [Permission.ALL])

    typer.echo(run(with_catalog(settings_or_exit(), add)))


@key_cli.command("list")
def key_list(email: Annotated[str, typer.Argument(help="Whose keys.")]) -> None:
    """List a user's API keys (not their secrets: those are not kept)."""

    async def keys(catalog: Catalog) -> list[tuple[str, str, str, str]]:
        user = await _user(catalog, email)
        return [
            (str(key.id), key.name, ", ".join(key.permissions), f"{key.created_at:%Y-%m-%d}")
            for key in await catalog.api_keys.list(user.id)
        ]

    print_table(("id", "name", "permissions", "made"), run(with_catalog(settings_or_exit(), keys)))


@key_cli.command("revoke")
def key_revoke(key_id: Annotated[UUID, typer.Argument(help="The id that `key list` shows.")]) -> None:
    """Revoke an API key; it stops working within five seconds."""

    async def revoke(catalog: Catalog) -> bool:
        return await catalog.api_keys.delete_any(key_id)

    if not run(with_catalog(settings_or_exit(), revoke)):
        fail(f"there is no key {key_id}")


@db_cli.command("upgrade")
def db_upgrade() -> None:
    """Bring the catalogue's tables up to date; `serve` does it too."""
    from app.jobs.jobs import prepare_delivery  # noqa: PLC0415 - slow to import

    run(with_catalog(settings_for_rooms(), prepare_delivery))


async def _first_user(catalog: Catalog) -> None:
    if await catalog.users.count():
        return
    user = await catalog.users.create(FIRST_USER, "Admin", is_admin=True)
    typer.echo(f"API key: {await _new_key(catalog, user, 'first key', [Permission.ALL])}")


async def _new_key(catalog: Catalog, user: User, name: str, permissions: list[Permission]) -> str:
    secret = new_secret()
    await catalog.api_keys.create(user.id, name, permissions, hash_secret(secret))
    return secret


async def _user(catalog: Catalog, email: str) -> User:
    user = await catalog.users.by_email(email)
    if user is None:
        fail(f"there is no user {email}")
    return user


def _listen(settings: Settings) -> list[socket.socket]:
    try:
        return listen(settings.host, settings.port, BACKLOG)
    except SettingsError as error:
        fail(str(error))


def _allow_descriptors(wanted: int) -> None:
    """A client that downloads has a connection and a file; the usual limit of 1,024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if resource.RLIM_INFINITY != soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _address(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
