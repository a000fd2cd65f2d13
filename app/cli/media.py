"""The media location, as commands open it: only where it is, and is ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.catalog.catalog import Catalog
from app.config import Settings, StorageEngine
from app.health.folders import MountCheckFailed
from app.health.markers import FOLDERS, MARKER, MediaLocationCheck, require_root
from app.storage.errors import StorageError, StorageUnavailable
from app.storage.service import StorageService, open_storage


@asynccontextmanager
async def found_storage(settings: Settings) -> AsyncIterator[StorageService]:
    """Without a look at the catalogue, and without making what is not there. Raises a `StorageError`."""
    root = settings.media_location
    if settings.storage_engine is StorageEngine.LOCAL and not root.is_dir():
        raise StorageUnavailable(str(root), "local", "IMMICH_MEDIA_LOCATION is no folder")
    storage = await open_storage(settings)
    try:
        yield storage
    finally:
        await storage.aclose()


@asynccontextmanager
async def our_storage(settings: Settings, catalog: Catalog) -> AsyncIterator[StorageService]:
    """What the catalogue's markers say is ours. Raises a `StorageError` where it is not, or is not any more at the end: what was found until
    then may be wrong."""
    ignored = settings.ignore_mount_check_errors
    if settings.storage_engine is StorageEngine.LOCAL and not ignored:
        try:
            await require_root(catalog, settings.media_location)
        except MountCheckFailed as error:
            raise StorageUnavailable(str(settings.media_location), "local", str(error)) from error
    storage = await open_storage(settings)
    try:
        await _require_ours(settings, catalog, storage)
        yield storage
        await _require_ours(settings, catalog, storage)
    finally:
        await storage.aclose()


async def _require_ours(settings: Settings, catalog: Catalog, storage: StorageService) -> None:
    check = MediaLocationCheck(catalog, storage, ignore_errors=settings.ignore_mount_check_errors)
    try:
        await check.admit_write()
    finally:
        await check.aclose()
    if settings.storage_engine is StorageEngine.S3 and not settings.ignore_mount_check_errors:
        await _require_folder(settings.media_location, catalog)


async def _require_folder(root: Path, catalog: Catalog) -> None:
    """The folder that was in use before S3, where files of the catalogue are still there: is its disk mounted?"""
    if not await catalog.files.any_live_below(f"{root}/"):
        return
    for folder in FOLDERS:
        known = await catalog.installation.flag(f"marker:{StorageEngine.LOCAL}:{folder}/{MARKER}") is not None
        if known and not (root / folder / MARKER).is_file():
            raise StorageUnavailable(str(root / folder / MARKER), "local", "is missing: the folder looks unmounted")


def reason(error: StorageError) -> str:
    """The line that says what is wrong."""
    line = f"{error.key}: {error.detail}" if error.key and error.detail else error.detail or str(error)
    return f"{line} ({error.hint})" if error.hint and error.hint not in line else line
