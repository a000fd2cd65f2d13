"""What the commands share: settings, a catalogue that is closed again, and failures as one line with a status of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, NoReturn, TypeVar

import typer

from app.catalog.catalog import open_catalog
from app.catalog.errors import CatalogError, CatalogUnavailable
from app.config import Settings, SettingsError, load_settings, prefix_setting_name

T = TypeVar("T")


async def call_with_catalog(settings: Settings, work: Any) -> Any:
    """What `work` makes of the catalogue, which is closed at the end."""
    try:
        catalog = await open_catalog(settings.db_url.get_secret_value())
    except CatalogError as error:
        fail(prefix_setting_name("DB_URL", error))
    try:
        return await work(catalog)
    finally:
        await catalog.aclose()


def run_command(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end; what the catalogue refuses ends the command."""
    try:
        return asyncio.run(work)
    except CatalogUnavailable as error:
        fail(prefix_setting_name("DB_URL", error))
    except CatalogError as error:
        fail(str(error))


def load_settings_or_exit() -> Settings:
    """The settings of this process."""
    try:
        return load_settings()
    except SettingsError as error:
        fail(str(error))


def load_settings_with_logging() -> Settings:
    """As `load_settings_or_exit`, for commands that call rooms which log: that goes to standard error, too, and never between the answers."""
    from app.api.logging_setup import configure_logging  # noqa: PLC0415 - slow to import

    settings = load_settings_or_exit()
    configure_logging(settings.log_level, settings.log_format)
    return settings


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None)
    for name in columns:
        table.add_column(name, no_wrap=name == "id")  # an id that is cut short is none
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def fail(message: str, *, status: int = 2) -> NoReturn:
    """One line on standard error, and the end of the command."""
    typer.echo(f"mediavault: {message}", err=True)
    raise typer.Exit(status)
