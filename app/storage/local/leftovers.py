"""Removes the temporary files that writes of dead processes, and ended resumable writes, have left."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from datetime import timedelta

from app.storage.backend import FindKeysInUse
from app.storage.local.file_writer import BACKEND, lock_file
from app.storage.local.os_errors import raise_storage_errors
from app.storage.local.resumable_file import find_target
from app.storage.local.root_folder import FoundFile, RootFolder

MIN_AGE_WITHOUT_LOCKS = timedelta(days=1)
"""Where a file system has no locks, a temporary file of at least this age counts as that of a dead writer."""


def find_old(files: Sequence[FoundFile], older_than: timedelta) -> list[FoundFile]:
    """The temporary files that were last written at least `older_than` ago."""
    return [file for file in files if file.is_temporary and _age(file) >= older_than]


async def exclude_in_use(files: Sequence[FoundFile], find_in_use: FindKeysInUse | None) -> list[FoundFile]:
    """The files without those of resumable writes that may go on."""
    targets = {file.name: find_target(file.name) for file in files}
    keys = {key for key in targets.values() if key is not None}
    in_use = await find_in_use(keys) if find_in_use is not None and keys else ()
    return [file for file in files if targets[file.name] not in in_use]


def sweep_files(root_folder: RootFolder, files: Sequence[FoundFile]) -> int:
    """Remove those of the files that no live writer holds; returns how many. Blocks."""
    with raise_storage_errors(str(root_folder.root), BACKEND):
        return sum(_sweep_file(root_folder, file.name.encode(), _age(file)) for file in files)


def _age(file: FoundFile) -> timedelta:
    return timedelta(seconds=time.time() - file.status.st_mtime)


def _sweep_file(root_folder: RootFolder, name: bytes, age: timedelta) -> bool:
    """False where a live writer holds the file."""
    above, _, last = name.rpartition(b"/")
    try:
        folder = root_folder.open(above)
    except FileNotFoundError:
        return False
    try:
        descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            if not lock_file(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and age < MIN_AGE_WITHOUT_LOCKS:
                return False
            os.unlink(last, dir_fd=folder)
        finally:
            os.close(descriptor)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(folder)
    return True
