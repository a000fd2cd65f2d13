"""Checks the media location on disk, its markers and the staging folder. Missing folders and markers are not created."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import aclosing
from pathlib import Path

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.config import GIBIBYTE, Settings, StorageEngine
from app.doctor.findings import ReportSection, format_size
from app.health.markers import MediaLocationCheck
from app.health.mount_states import MountCondition
from app.storage.backend import StorageBackend
from app.storage.service import StorageService
from app.storage.staging import Staging

LOW_SPACE_BYTES = 2 * GIBIBYTE


def check_media_folder(section: ReportSection, root: Path) -> bool:
    """Whether the folder exists; adds a finding if not. Blocking, for a moment."""
    if root.is_dir():
        return True
    if root.exists():
        section.fail("folder", f"{root} is no folder", "IMMICH_MEDIA_LOCATION must name one")
    elif (parent := _find_existing_parent(root)) is not None and not os.access(parent, os.W_OK | os.X_OK):
        section.fail(
            "folder", f"{root} is not there, and can not be made", f"give this user the right to write to {parent}"
        )
    else:
        section.warn(
            "folder", f"{root} is not there", "the first start of the service makes it; later it means: not mounted"
        )
    return False


async def check_local_writes(section: ReportSection, backend: StorageBackend) -> None:
    """Writes, syncs, reads and removes a file with a reserved name, and checks the free space."""

    async def probe() -> str:
        await backend.probe()
        return "a file was written, synced, read back and removed"

    await section.run_check("writes", probe())
    disk_space = await backend.disk_space("")
    if disk_space is not None:
        free_space = f"{format_size(disk_space.free)} of {format_size(disk_space.total)} free"
        if disk_space.free < LOW_SPACE_BYTES:
            section.warn("disk", free_space, "make room: uploads are refused when it is full")
        else:
            section.ok("disk", free_space)


async def check_markers(
    section: ReportSection, catalog: Catalog, storage: StorageService, engine: StorageEngine
) -> None:
    """Compares the markers with the catalogue."""
    try:
        if not await catalog.installation.has_id():
            section.warn(
                "markers", "this catalogue has not been in use yet", "the first start of the service makes them"
            )
            return
        async with aclosing(MediaLocationCheck(catalog, storage, engine=engine)) as check:
            marked = await check.list_marked_folders()
            states = await check.list_mount_states()
    except CatalogError as error:
        section.fail("markers", str(error))
        return
    failing = [state for state in states if state.state is not MountCondition.OK]
    for state in failing:
        if state.name not in marked and state.state is MountCondition.UNMOUNTED:
            section.warn(f"marker of {state.name}", "has not been made yet", "the next start of the service makes it")
        else:
            section.fail(f"marker of {state.name}", state.error or state.state.value)
    if not failing:
        section.ok("markers", f"{len(states)} of {len(states)} are ours")


async def check_staging(section: ReportSection, settings: Settings) -> None:
    root = settings.staging_folder
    try:
        free = (await asyncio.to_thread(shutil.disk_usage, _find_existing_parent(root) or root)).free
    except OSError as error:
        section.fail("folder", f"{root}: {error.strerror}", "MEDIAVAULT_STAGING_FOLDER")
        return
    if not await asyncio.to_thread(root.is_dir):
        section.warn("folder", f"{root} is not there", "the first start of the service makes it")
    else:
        async with aclosing(Staging(root, settings.staging_limit)) as staging:

            async def probe() -> str:
                await staging.check()
                return str(root)

            await section.run_check("folder", probe())
    if free < settings.staging_limit:
        hint = "MEDIAVAULT_STAGING_LIMIT is more than there is: work on large files waits when it is full"
        section.warn("disk", f"{format_size(free)} free, {format_size(settings.staging_limit)} allowed", hint)
    else:
        section.ok("disk", f"{format_size(free)} free")


def _find_existing_parent(path: Path) -> Path | None:
    """The path itself or the nearest parent that is a folder."""
    return next((folder for folder in (path, *path.parents) if folder.is_dir()), None)
