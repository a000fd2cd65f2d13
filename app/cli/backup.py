"""`mediavault backup`: creates, lists and restores backups of the catalogue. Media files are not in them."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, CatalogNotEmpty
from app.cli.command_runner import call_with_catalog, fail, load_settings_with_logging, run_command
from app.config import Settings, prefix_setting_name
from app.storage.errors import StorageError

if TYPE_CHECKING:
    from app.migration.backups.restore import RestoreResult

backup_cli = typer.Typer(
    no_args_is_help=True, help="Copies of the catalogue in backups/ of the media location. Photos are not in them."
)
NEWEST = "newest"


@backup_cli.command("create")
def backup_create() -> None:
    """Make a backup now. Safe while the service runs."""
    from app.cli.storage_access import describe_storage_error, open_verified_storage  # noqa: PLC0415 - slow to import
    from app.migration.backups.backup_format import BackupDamaged  # noqa: PLC0415
    from app.migration.backups.backup_store import BackupInProgress, BackupStore  # noqa: PLC0415

    settings = load_settings_with_logging()

    async def create(catalog: Catalog) -> None:
        try:
            async with open_verified_storage(settings, catalog) as storage:
                backup = await BackupStore(catalog, storage, settings).create()
        except BackupInProgress as error:
            fail(str(error))
        except StorageError as error:
            fail(describe_storage_error(error))
        except BackupDamaged as error:
            fail(f"the backup came back from the store damaged, and is removed: {error}")
        typer.echo(backup.path)

    run_command(call_with_catalog(settings, create))


@backup_cli.command("list")
def backup_list() -> None:
    """List the backups, newest first: when each was made, its bytes, its path. Needs no catalogue."""
    from app.cli.storage_access import describe_storage_error, open_existing_storage  # noqa: PLC0415 - slow to import
    from app.migration.backups.backup_store import BackupInfo, list_backups  # noqa: PLC0415

    async def read_list() -> list[BackupInfo]:
        try:
            async with open_existing_storage(load_settings_with_logging()) as storage:
                return await list_backups(storage)
        except StorageError as error:
            fail(describe_storage_error(error))

    for backup in run_command(read_list()):
        typer.echo(f"{backup.created_at:%Y-%m-%dT%H:%M:%SZ}  {backup.size:>12}  {backup.path}")


@backup_cli.command("restore")
def backup_restore(
    backup: Annotated[
        str, typer.Argument(help="A path that `backup list` shows, a file on this host, or `newest`.")
    ] = NEWEST,
    relocate: Annotated[
        bool,
        typer.Option("--relocate", help="The media lie elsewhere than they did: let the paths follow the settings."),
    ] = False,
) -> None:
    """Bring a backup back into an empty catalogue (the service must not run): all of it, or nothing."""
    from app.cli.storage_access import describe_storage_error  # noqa: PLC0415 - slow to import
    from app.migration.backups.backup_format import BackupDamaged  # noqa: PLC0415
    from app.migration.backups.path_relocation import MediaLocationDiffers  # noqa: PLC0415
    from app.migration.backups.restore import restore_backup  # noqa: PLC0415

    settings = load_settings_with_logging()

    async def restore() -> RestoreResult:
        try:
            async with _open_backup(settings, backup) as chunks:
                return await restore_backup(settings, chunks, relocate=relocate)
        except BackupDamaged as error:
            fail(f"{backup}: {error}; nothing was restored")
        except CatalogNotEmpty as error:
            fail(f"{error}; a backup is restored into an empty one only")
        except OSError as error:
            fail(f"{backup}: {error.strerror}")
        except MediaLocationDiffers as error:
            fail(str(error))
        except StorageError as error:
            fail(describe_storage_error(error))
        except CatalogError as error:
            fail(f"{prefix_setting_name('DB_URL', error)}; nothing was restored")

    restored = run_command(restore())
    _print_restored(restored)


def _print_restored(restored: RestoreResult) -> None:
    dropped = restored.dropped_rows
    typer.echo(f"restored the backup of {restored.header.created_at}: {sum(restored.row_counts.values())} rows")
    if restored.relocated_paths:
        typer.echo(f"{restored.relocated_paths} paths follow the media location")
    if dropped.files:
        typer.echo(
            f"{dropped.files} files that were being written or removed are forgotten: `mediavault verify` names those that are there"
        )
    if dropped.trashed:
        typer.echo(f"{dropped.trashed} assets in the trash begin their time there anew")


@asynccontextmanager
async def _open_backup(settings: Settings, backup: str) -> AsyncIterator[AsyncIterable[bytes]]:
    """The chunks of a backup: of the file `backup` on this host if there is one, else of that backup in the media location."""
    from app.cli.storage_access import open_existing_storage  # noqa: PLC0415 - slow to import
    from app.migration.backups.backup_store import exclude_future_backups, list_backups  # noqa: PLC0415
    from app.migration.backups.restore import read_file_chunks  # noqa: PLC0415

    if Path(backup).is_file():  # noqa: ASYNC240 - nothing else runs on this loop
        yield read_file_chunks(Path(backup))
        return
    async with open_existing_storage(settings) as storage:
        backups = await list_backups(storage)
        if backup == NEWEST:
            matching = exclude_future_backups(backups, datetime.now(UTC))
        else:
            matching = [each for each in backups if backup in (each.path, each.name)]
        if not matching:
            fail("there is no backup" if backup == NEWEST else f"there is no backup {backup}")
        async with storage.read(matching[0].path) as stream:
            yield stream.chunks
