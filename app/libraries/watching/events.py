"""Follows what happens in a library's folders: the kernel's events, coalesced into folders to be listed again once they have settled.

An event tells only where to look. For a folder it means to list it and all below it again: files that came into a new folder before the
kernel watched it have no events of their own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.libraries.import_paths.overlap import ReservedFolder
from app.libraries.patterns.exclusions import ExclusionRules
from app.libraries.scanning.traversal import TraversalRules
from app.libraries.scanning.walk import ScanScope
from app.libraries.watching.tree import WatchedTree
from app.storage.local.daemon_executor import DaemonExecutor

T = TypeVar("T")

MAX_PENDING_FOLDERS = 500
"""With more folders than this to look at, the whole library is looked through."""


class WatchUnavailable(Exception):
    """The system can not watch these folders, or not all of them; the text says why."""


class FolderEventReader:
    """Events below some folders. One thread waits for them."""

    def __init__(self) -> None:
        self._thread = DaemonExecutor("library-watch", 1)
        self._stop = threading.Event()
        self._tree: WatchedTree | None = None

    async def open(
        self, paths: Sequence[str], exclusions: ExclusionRules, reserved_folders: Collection[ReservedFolder] = ()
    ) -> None:
        """Watch what a walk of these import paths enters that leaves out `reserved_folders` folders. Raises `WatchUnavailable`."""
        try:
            self._tree = await self._run_in_thread(
                lambda: WatchedTree([TraversalRules(path, exclusions, reserved_folders) for path in paths])
            )
        except OSError as error:
            raise WatchUnavailable(_watch_error_reason(error)) from error

    async def read_changed_paths(self) -> set[str]:
        """Paths at which something happened, gathered for a moment; empty after a second without any. Raises `WatchUnavailable`, `WatchLost`."""
        folders = self._tree
        if folders is None:
            raise WatchUnavailable("is closed")
        try:
            return await self._run_in_thread(partial(folders.read_changed_paths, self._stop))
        except OSError as error:
            raise WatchUnavailable(_watch_error_reason(error)) from error

    def close(self) -> None:
        """Nobody waits for the thread, since a disk may not answer it."""
        self._stop.set()
        folders, self._tree = self._tree, None
        if folders is not None:
            self._thread.submit(folders.close)
        self._thread.shutdown(wait=False)

    async def _run_in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _watch_error_reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the system's limit of watched folders is reached (fs.inotify.max_user_watches)"
    if error.errno == errno.EMFILE:
        return "the system's limit of watchers is reached (fs.inotify.max_user_instances)"
    return error.strerror or "error"


class PendingFolders:
    """Folders to look at, each once, at the time when what happened there has settled."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._due: dict[ScanScope, float] = {}

    def add(self, scopes: Iterable[ScanScope], now: float) -> None:
        """A folder that waits already is not put off: a file that is written for hours must not hide those beside it."""
        for scope in scopes:
            self._due.setdefault(scope, now + self._settle_seconds)

    def take_due(self, now: float) -> list[ScanScope]:
        """Those that are due; folders within others that are taken with all below them are left out."""
        due = [scope for scope, moment in self._due.items() if moment <= now]
        for scope in due:
            del self._due[scope]
        deep = {path for path, all_below in due if all_below}
        return [(path, all_below) for path, all_below in due if not _is_covered(path, all_below, deep)]

    @property
    def next_due_at(self) -> float | None:
        return min(self._due.values(), default=None)

    def __len__(self) -> int:
        return len(self._due)

    def clear(self) -> None:
        self._due.clear()


def find_changed_scopes(changed: Iterable[str], roots: Sequence[str]) -> set[ScanScope]:
    """Where to look after events at these paths. For a thread: asks the disk."""
    scopes: set[ScanScope] = set()
    for path in changed:
        root = next((root for root in roots if path == root or path.startswith(root + "/")), None)
        if root is None:
            continue
        if path != root:
            scopes.add((os.path.dirname(path), False))  # noqa: PTH120 - text in, text out
        # What is gone may have been a folder.
        if Path(path).is_dir() or not os.path.lexists(path):
            scopes.add((path, True))
    return scopes


def _is_covered(path: str, all_below: bool, deep: set[str]) -> bool:
    if path in deep and not all_below:
        return True
    above = path.rpartition("/")[0]
    while above:
        if above in deep:
            return True
        above = above.rpartition("/")[0]
    return False
