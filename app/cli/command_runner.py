"""Shared parts of the commands: load settings, open and close the catalogue, print tables, and fail with one line and an exit status."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import typer

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.errors import CatalogError, CatalogUnavailable
from app.catalog.schema.records import User
from app.config import Settings, SettingsError, load_settings, prefix_setting_name

T = TypeVar("T")


async def call_with_catalog(settings: Settings, work: Any) -> Any:
    """Opens the catalogue, returns the result of `work(catalog)`, and closes the catalogue. Ends the command if it cannot be opened, but for a
    database that does not answer: then it raises `CatalogUnavailable`."""
    try:
        catalog = await open_catalog(settings.db_url.get_secret_value())
    except CatalogUnavailable:
        raise
    except CatalogError as error:
        fail(prefix_setting_name("DB_URL", error))
    try:
        return await work(catalog)
    finally:
        await catalog.aclose()


def run_command(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in an event loop of its own. A `CatalogError` ends the command."""
    try:
        return asyncio.run(work)
    except CatalogUnavailable as error:
        fail(prefix_setting_name("DB_URL", error))
    except CatalogError as error:
        fail(str(error))


def load_settings_or_exit() -> Settings:
    """The settings. Invalid ones end the command."""
    try:
        return load_settings()
    except SettingsError as error:
        fail(str(error))


def load_settings_with_logging() -> Settings:
    """As `load_settings_or_exit`, for commands whose work logs: the log goes to standard error, so that standard output holds only results."""
    from app.api.logging_setup import configure_logging  # noqa: PLC0415 - slow to import

    settings = load_settings_or_exit()
    configure_logging(settings.log_level, settings.log_format)
    return settings


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None)
    for name in columns:
        table.add_column(name, no_wrap=name == "id")  # a truncated id is useless
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def fail(message: str, *, status: int = 2) -> NoReturn:
    """Prints one line to standard error and ends the command with `status`."""
    typer.echo(f"mediavault: {message}", err=True)
    raise typer.Exit(status)


async def find_user(catalog: Catalog, email_or_id: str) -> User:
    """The user with this address or id. Ends the command where there is none."""
    user = await catalog.users.get_by_email(email_or_id)
    if user is None:
        with suppress(ValueError):
            user = await catalog.users.get(UUID(email_or_id))
    if user is None:
        fail(f"there is no user {email_or_id}")
    return user
