"""The media location with its markers, and the disk for staging. Folders that are missing are not made."""

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


def check_media_folder(area: ReportSection, root: Path) -> bool:
    """Whether it is there. Blocks for a moment."""
    if root.is_dir():
        return True
    if root.exists():
        area.fail("folder", f"{root} is no folder", "IMMICH_MEDIA_LOCATION must name one")
    elif (above := _find_existing_parent(root)) is not None and not os.access(above, os.W_OK | os.X_OK):
        area.fail(
            "folder", f"{root} is not there, and can not be made", f"give this user the right to write to {above}"
        )
    else:
        area.warn(
            "folder", f"{root} is not there", "the first start of the service makes it; later it means: not mounted"
        )
    return False


async def check_local_writes(area: ReportSection, backend: StorageBackend) -> None:
    """The whole way of a write, to a reserved name that is removed again."""

    async def probe() -> str:
        await backend.probe()
        return "a file was written, synced, read back and removed"

    await area.run_check("writes", probe())
    room = await backend.disk_space("")
    if room is not None:
        told = f"{format_size(room.free)} of {format_size(room.total)} free"
        if room.free < LOW_SPACE_BYTES:
            area.warn("disk", told, "make room: uploads are refused when it is full")
        else:
            area.ok("disk", told)


async def check_markers(area: ReportSection, catalog: Catalog, storage: StorageService, engine: StorageEngine) -> None:
    """Looked at, never made."""
    try:
        if not await catalog.installation.has_id():
            area.warn("markers", "this catalogue has not been in use yet", "the first start of the service makes them")
            return
        async with aclosing(MediaLocationCheck(catalog, storage, engine=engine)) as check:
            known = await check.list_marked_folders()
            states = await check.list_mount_states()
    except CatalogError as error:
        area.fail("markers", str(error))
        return
    wrong = [state for state in states if state.state is not MountCondition.OK]
    for state in wrong:
        if state.name not in known and state.state is MountCondition.UNMOUNTED:
            area.warn(f"marker of {state.name}", "has not been made yet", "the next start of the service makes it")
        else:
            area.fail(f"marker of {state.name}", state.error or state.state.value)
    if not wrong:
        area.ok("markers", f"{len(states)} of {len(states)} are ours")


async def check_staging(area: ReportSection, settings: Settings) -> None:
    root = settings.staging_folder
    try:
        free = (await asyncio.to_thread(shutil.disk_usage, _find_existing_parent(root) or root)).free
    except OSError as error:
        area.fail("folder", f"{root}: {error.strerror}", "MEDIAVAULT_STAGING_FOLDER")
        return
    if not await asyncio.to_thread(root.is_dir):
        area.warn("folder", f"{root} is not there", "the first start of the service makes it")
    else:
        async with aclosing(Staging(root, settings.staging_limit)) as staging:

            async def try_out() -> str:
                await staging.check()
                return str(root)

            await area.run_check("folder", try_out())
    if free < settings.staging_limit:
        hint = "MEDIAVAULT_STAGING_LIMIT is more than there is: work on large files waits when it is full"
        area.warn("disk", f"{format_size(free)} free, {format_size(settings.staging_limit)} allowed", hint)
    else:
        area.ok("disk", f"{format_size(free)} free")


def _find_existing_parent(path: Path) -> Path | None:
    """The path, or the next folder above it that is there."""
    return next((folder for folder in (path, *path.parents) if folder.is_dir()), None)
