"""Reads inotify events of a library's folders and turns them into folders to scan, once they have settled. Does not scan.

An event only says which folder to list again. For a new folder everything below it is listed, too: files that were created in it before the
kernel watched it have no events.
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
from app.libraries.watching.inotify_tree import WatchedTree
from app.storage.local.daemon_executor import DaemonExecutor

T = TypeVar("T")

MAX_PENDING_FOLDERS = 500
"""With more pending folders than this, the whole library is scanned instead."""


class WatchUnavailable(Exception):
    """The kernel cannot watch these folders, or not all of them; the text says why."""


class FolderEventReader:
    """Asynchronous reader of the events below some import paths. One thread of its own waits for them."""

    def __init__(self) -> None:
        self._thread = DaemonExecutor("library-watch", 1)
        self._stop = threading.Event()
        self._tree: WatchedTree | None = None

    async def open(
        self, paths: Sequence[str], exclusions: ExclusionRules, reserved_folders: Collection[ReservedFolder] = ()
    ) -> None:
        """Watches the folders that a scan of these import paths enters. Raises `WatchUnavailable`."""
        try:
            self._tree = await self._run_in_thread(
                lambda: WatchedTree([TraversalRules(path, exclusions, reserved_folders) for path in paths])
            )
        except OSError as error:
            raise WatchUnavailable(_watch_error_reason(error)) from error

    async def read_changed_paths(self) -> set[str]:
        """Paths with events, collected for up to a second; empty after a second without any. Raises `WatchUnavailable`, `WatchLost`."""
        tree = self._tree
        if tree is None:
            raise WatchUnavailable("is closed")
        try:
            return await self._run_in_thread(partial(tree.read_changed_paths, self._stop))
        except OSError as error:
            raise WatchUnavailable(_watch_error_reason(error)) from error

    def close(self) -> None:
        """Does not wait for the thread, which may hang on a dead disk."""
        self._stop.set()
        tree, self._tree = self._tree, None
        if tree is not None:
            self._thread.submit(tree.close)
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
    """Queue of folders to scan, each once, due `settle_seconds` after its first event."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._due: dict[ScanScope, float] = {}

    def add(self, scopes: Iterable[ScanScope], now: float) -> None:
        """A folder that is queued already is not postponed: a file that is written for hours must not delay those beside it."""
        for scope in scopes:
            self._due.setdefault(scope, now + self._settle_seconds)

    def take_due(self, now: float) -> list[ScanScope]:
        """Removes and returns the due folders, without those that lie in a due folder that is scanned recursively."""
        due = [scope for scope, due_at in self._due.items() if due_at <= now]
        for scope in due:
            del self._due[scope]
        recursive = {path for path, is_recursive in due if is_recursive}
        return [(path, is_recursive) for path, is_recursive in due if not _is_covered(path, is_recursive, recursive)]

    @property
    def next_due_at(self) -> float | None:
        return min(self._due.values(), default=None)

    def __len__(self) -> int:
        return len(self._due)

    def clear(self) -> None:
        self._due.clear()


def find_changed_scopes(changed: Iterable[str], roots: Sequence[str]) -> set[ScanScope]:
    """The folders to scan after events at these paths. Blocking: call it in a thread."""
    scopes: set[ScanScope] = set()
    for path in changed:
        root = next((root for root in roots if path == root or path.startswith(root + "/")), None)
        if root is None:
            continue
        if path != root:
            scopes.add((os.path.dirname(path), False))  # noqa: PTH120 - text in, text out
        # A path that no longer exists may have been a folder.
        if Path(path).is_dir() or not os.path.lexists(path):
            scopes.add((path, True))
    return scopes


def _is_covered(path: str, is_recursive: bool, recursive: set[str]) -> bool:
    if path in recursive and not is_recursive:
        return True
    parent = path.rpartition("/")[0]
    while parent:
        if parent in recursive:
            return True
        parent = parent.rpartition("/")[0]
    return False
