"""The `mediavault` command: runs the service, and manages users, keys, libraries, moves and backups."""

from __future__ import annotations

import os
import sys
from typing import Annotated
from uuid import UUID

import typer

from app.api.authentication.permissions import Permission
from app.catalog.catalog import Catalog
from app.catalog.schema.records import User
from app.cli.backup import backup_cli
from app.cli.command_runner import (
    call_with_catalog,
    fail,
    find_user,
    load_settings_or_exit,
    load_settings_with_logging,
    print_table,
    run_command,
)
from app.cli.doctor import doctor
from app.cli.export import export
from app.cli.first_run import create_api_key
from app.cli.immich import immich_cli
from app.cli.library import library_cli
from app.cli.migrate import migrate_cli
from app.cli.serve import serve
from app.cli.task_commands import process_assets, run_worker
from app.cli.verify import verify

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
user_cli = typer.Typer(no_args_is_help=True, help="Who may use the service.")
key_cli = typer.Typer(no_args_is_help=True, help="API keys.")
db_cli = typer.Typer(no_args_is_help=True, help="The catalogue's tables.")
cli.command()(serve)
cli.command("worker")(run_worker)
cli.command("process")(process_assets)
cli.add_typer(user_cli, name="user")
cli.add_typer(key_cli, name="key")
cli.add_typer(db_cli, name="db")
cli.add_typer(library_cli, name="library")
cli.add_typer(immich_cli, name="immich")
cli.add_typer(migrate_cli, name="migrate")
cli.add_typer(backup_cli, name="backup")
cli.command()(verify)
cli.command("export")(export)
cli.command()(doctor)

NO_QUOTA = "none"
MAX_QUOTA = 2**63 - 1
"""The largest number that the database can store."""
PRIVATE = 0o077
"""The umask: files that are created, with photos or password hashes, are readable by their owner only."""


def main() -> None:
    """Entry point of the console script `mediavault`."""
    os.umask(PRIVATE)
    cli()


@user_cli.command("add")
def user_add(
    email: Annotated[str, typer.Argument(help="The address that the user logs in with.")],
    name: Annotated[str, typer.Option(help="The name that is shown; the address without it.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May see everybody's figures.")] = False,
    quota: Annotated[
        int | None, typer.Option(help="Most bytes that the user's originals may take.", min=0, max=MAX_QUOTA)
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            help="Read the password (at least 8 characters) from standard input; without it only keys work.",
        ),
    ] = False,
) -> None:
    """Add a user."""
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None

    from app.api.authentication.passwords import InvalidPassword, PasswordService  # noqa: PLC0415 - slow to import

    async def add(catalog: Catalog) -> User:
        try:
            password_hash = None if password is None else await PasswordService().hash(password)
        except InvalidPassword as error:
            fail(f"the password on standard input: {error}")
        return await catalog.users.create(
            email, name or email, is_admin=admin, quota=quota, password_hash=password_hash
        )

    typer.echo(run_command(call_with_catalog(load_settings_or_exit(), add)).id)


@user_cli.command("list")
def user_list() -> None:
    """List the users."""

    async def list_users(catalog: Catalog) -> list[User]:
        return await catalog.users.list()

    print_table(
        ("id", "email", "name", "admin", "used", "quota"),
        (
            (
                *(str(user.id), user.email, user.name, "yes" if user.is_admin else "", str(user.used)),
                "" if user.quota is None else str(user.quota),
            )
            for user in run_command(call_with_catalog(load_settings_or_exit(), list_users))
        ),
    )


@user_cli.command("quota")
def user_quota(
    email: Annotated[str, typer.Argument(help="Whose quota: an address or an id.")],
    quota: Annotated[str, typer.Argument(help="Most bytes that the user's originals may take, or `none`.")],
) -> None:
    """Change a user's quota. What is kept already stays, also where it is more."""
    size = None if quota == NO_QUOTA else int(quota) if quota.isascii() and quota.isdigit() else -1
    if size is not None and not 0 <= size <= MAX_QUOTA:
        fail(f"{quota!r} is neither a number of bytes nor `{NO_QUOTA}`")

    async def change(catalog: Catalog) -> None:
        user = await find_user(catalog, email)
        await catalog.users.update(user.id, quota=size)

    run_command(call_with_catalog(load_settings_or_exit(), change))


@key_cli.command("add")
def key_add(
    email: Annotated[str, typer.Argument(help="Whose key it is: an address or an id.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "API key",
    permission: Annotated[
        list[Permission] | None, typer.Option(help="What it may do, by Immich's names; all without it. Repeatable.")
    ] = None,
) -> None:
    """Make an API key and print it; it is shown only now."""

    async def add(catalog: Catalog) -> str:
        user = await find_user(catalog, email)
        return await create_api_key(catalog, user, name, permission or [Permission.ALL])

    typer.echo(run_command(call_with_catalog(load_settings_or_exit(), add)))


@key_cli.command("list")
def key_list(email: Annotated[str, typer.Argument(help="Whose keys: an address or an id.")]) -> None:
    """List a user's API keys (not their secrets: those are not kept)."""

    async def list_keys(catalog: Catalog) -> list[tuple[str, str, str, str]]:
        user = await find_user(catalog, email)
        return [
            (str(key.id), key.name, ", ".join(key.permissions), f"{key.created_at:%Y-%m-%d}")
            for key in await catalog.api_keys.list(user.id)
        ]

    print_table(
        ("id", "name", "permissions", "made"), run_command(call_with_catalog(load_settings_or_exit(), list_keys))
    )


@key_cli.command("revoke")
def key_revoke(key_id: Annotated[UUID, typer.Argument(help="The id that `key list` shows.")]) -> None:
    """Revoke an API key; it stops working within five seconds."""

    async def revoke(catalog: Catalog) -> bool:
        return await catalog.api_keys.delete_any(key_id)

    if not run_command(call_with_catalog(load_settings_or_exit(), revoke)):
        fail(f"there is no key {key_id}")


@db_cli.command("upgrade")
def db_upgrade() -> None:
    """Bring the catalogue's tables up to date; `serve` does it too."""
    from app.jobs.service import prepare_delivery_schema  # noqa: PLC0415 - slow to import

    run_command(call_with_catalog(load_settings_with_logging(), prepare_delivery_schema))
