"""Opens the storage for commands, after checks that the media location exists, is mounted, and belongs to this installation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.catalog.catalog import Catalog
from app.config import Settings, StorageEngine
from app.health.foreign_roots import refuse_foreign_media_location
from app.health.markers import MARKER_NAME, MEDIA_FOLDERS, MediaLocationCheck, check_root_exists
from app.health.media_folder import MountCheckFailed
from app.libraries.import_paths.link_roots import update_foreign_roots
from app.storage.errors import StorageError, StorageUnavailable
from app.storage.opening import open_storage
from app.storage.service import StorageService


@asynccontextmanager
async def open_existing_storage(settings: Settings) -> AsyncIterator[StorageService]:
    """Opens the storage without the catalogue, hence without a check of markers. Does not create the media location. Raises `StorageError`."""
    root = settings.media_location
    if settings.storage_engine is StorageEngine.LOCAL and not root.is_dir():
        raise StorageUnavailable(str(root), "local", "IMMICH_MEDIA_LOCATION is no folder")
    storage = await open_storage(settings)
    try:
        yield storage
    finally:
        await storage.aclose()


@asynccontextmanager
async def open_verified_storage(settings: Settings, catalog: Catalog) -> AsyncIterator[StorageService]:
    """Opens the storage and checks its markers, before the block and after it. Raises `StorageError` if a marker is missing or foreign; after the
    block this means that the block's results may be wrong."""
    try:
        await refuse_foreign_media_location(catalog, settings.media_location)
    except MountCheckFailed as error:
        raise StorageUnavailable(str(settings.media_location), "local", str(error)) from error
    ignores_errors = settings.ignore_mount_check_errors
    if settings.storage_engine is StorageEngine.LOCAL and not ignores_errors:
        try:
            await check_root_exists(catalog, settings.media_location)
        except MountCheckFailed as error:
            raise StorageUnavailable(str(settings.media_location), "local", str(error)) from error
    storage = await open_storage(settings)
    try:
        await update_foreign_roots(catalog, storage)
        await _check_markers(settings, catalog, storage)
        yield storage
        await _check_markers(settings, catalog, storage)
    finally:
        await storage.aclose()


async def _check_markers(settings: Settings, catalog: Catalog, storage: StorageService) -> None:
    check = MediaLocationCheck(catalog, storage, ignore_errors=settings.ignore_mount_check_errors)
    try:
        await check.check_before_write()
    finally:
        await check.aclose()
    if settings.storage_engine is StorageEngine.S3 and not settings.ignore_mount_check_errors:
        await _check_local_folder(settings.media_location, catalog)


async def _check_local_folder(root: Path, catalog: Catalog) -> None:
    """Raises `StorageUnavailable` if the local folder that was used before S3 looks unmounted, while the catalogue still has files in it."""
    if not await catalog.files.has_live_below(f"{root}/"):
        return
    for folder in MEDIA_FOLDERS:
        is_marked = (
            await catalog.installation.get_flag(f"marker:{StorageEngine.LOCAL}:{folder}/{MARKER_NAME}") is not None
        )
        if is_marked and not (root / folder / MARKER_NAME).is_file():
            raise StorageUnavailable(
                str(root / folder / MARKER_NAME), "local", "is missing: the folder looks unmounted"
            )


def describe_storage_error(error: StorageError) -> str:
    """One line with key, detail and hint of the error."""
    line = f"{error.key}: {error.detail}" if error.key and error.detail else error.detail or str(error)
    return f"{line} ({error.hint})" if error.hint and error.hint not in line else line
