"""Checks the folder of the cache for S3, if there is one. A missing folder is not created."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from app.config import Settings
from app.doctor.findings import ReportSection, format_size
from app.storage.cache.folder import FOLDER_NAME, CacheFolder
from app.storage.key import TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from app.storage.local.syscalls import RWF_NOWAIT


async def check_cache(section: ReportSection, settings: Settings) -> None:
    root = settings.cache_folder
    if root is None:
        return
    if not settings.s3_bucket:
        section.warn("folder", "is not used: S3_BUCKET is not set", "the cache is for files in S3")
        return
    await asyncio.to_thread(_check_folder, section, settings, root)


def _check_folder(section: ReportSection, settings: Settings, root: Path) -> None:
    if not root.is_dir():
        section.warn("folder", f"{root} is not there", "the first start of the service makes it")
        return
    try:
        used = _read_usage(root)
        reads_without_waiting = _try_file(root)
        free = shutil.disk_usage(root).free
    except OSError as error:
        hint = "MEDIAVAULT_CACHE_FOLDER: until this user may write to it, everything is read from the store"
        section.fail("folder", f"{root}: {error.strerror}", hint)
        return
    section.ok("folder", str(root))
    if not reads_without_waiting:
        hint = "a network share or memory file system: a local disk is faster"
        section.warn("disk", "does not tell which bytes are in memory", hint)
    missing = settings.cache_size - used + settings.cache_reserve - free
    detail = f"{format_size(used)} of {format_size(settings.cache_size)} used, {format_size(free)} free"
    if missing > 0:
        hint = "the disk has less room than MEDIAVAULT_CACHE_SIZE and MEDIAVAULT_CACHE_RESERVE: the cache stays smaller"
        section.warn("space", detail, hint)
    else:
        section.ok("space", detail)


def _read_usage(root: Path) -> int:
    """The bytes that the blocks take. Raises OSError, also where others may write to the folder."""
    if not (root / FOLDER_NAME).exists():
        return 0
    folder = CacheFolder(root)
    try:
        return folder.read_usage() or 0
    finally:
        folder.close()


def _try_file(root: Path) -> bool:
    """Writes, locks and removes a file. Whether the disk supports reads that never wait. Raises OSError."""
    path = root / f"{TEMPORARY_PREFIX}doctor-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"mediavault")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            os.preadv(descriptor, [bytearray(1)], 0, RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(RWF_NOWAIT)
    finally:
        path.unlink()
        os.close(descriptor)
