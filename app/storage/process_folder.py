"""`ProcessFolder`: a staging folder for each process, locked (flock) for as long as the process lives.

A folder without a locked lock file belongs to a dead process, and may be removed; processes on one host do not disturb each other. All calls
block: they are made in threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from app.storage.errors import StorageUnavailable

STAGING = "staging"
"""The backend name in errors of staging."""

_PREFIX = "mediavault-"
_LOCK = "lock"


class ProcessFolder:
    """A new folder below `root`, which is made where it is missing. Raises OSError."""

    def __init__(self, root: Path) -> None:
        _make_root(root)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))  # mode 0700
            lock = _acquire_lock(self.path)
            if lock is not None:
                self._lock = lock
                return

    @property
    def is_intact(self) -> bool:
        """False where the folder was removed, by a cleaner of temporary files or because a disk was unmounted."""
        with suppress(OSError):
            return os.path.samestat((self.path / _LOCK).stat(), os.fstat(self._lock))
        return False

    def remove(self) -> None:
        """Call it once. Files that cannot be removed now are swept later."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep_dead_folders(root: Path) -> int:
    """Remove the folders of dead processes, and return how many. Raises OSError."""
    swept = 0
    with suppress(FileNotFoundError), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):  # another process sweeps it, or removes its own
                    swept += _sweep(entry)
    return swept


def _sweep(entry: os.DirEntry[str]) -> bool:
    if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
        return False
    lock = _open_lock(Path(entry.path))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(entry.path)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False  # another sweep works on it: it re-creates the lock file, and goes on
    finally:
        os.close(lock)
    return True


def _make_root(root: Path) -> None:
    """Folders above `root` get the default mode; an existing `root` keeps its mode."""
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(mode=0o700, exist_ok=True)


def _acquire_lock(folder: Path) -> int | None:
    """The descriptor of the folder's lock file; None where a sweep removed the folder before the lock was taken."""
    try:
        lock = _open_lock(folder)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return lock
    except OSError as error:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise StorageUnavailable(str(folder.parent), STAGING, "the file system there has no locks") from error
        raise
    os.close(lock)
    return None


def _open_lock(folder: Path) -> int:
    return os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
