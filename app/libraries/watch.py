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

from app.libraries.apart import Place
from app.libraries.exclusions import Exclusions
from app.libraries.walk import Scope
from app.libraries.watched import WatchedFolders
from app.libraries.ways import Ways
from app.storage.local.daemons import DaemonExecutor

T = TypeVar("T")

MOST_PENDING = 500
"""With more folders than this to look at, the whole library is looked through."""


class WatchUnavailable(Exception):
    """The system can not watch these folders, or not all of them; the text says why."""


class Watch:
    """Events below some folders. One thread waits for them."""

    def __init__(self) -> None:
        self._thread = DaemonExecutor("library-watch", 1)
        self._stop = threading.Event()
        self._folders: WatchedFolders | None = None

    async def open(self, paths: Sequence[str], exclusions: Exclusions, own: Collection[Place] = ()) -> None:
        """Watch what a walk of these import paths enters that leaves out `own` folders. Raises `WatchUnavailable`."""
        try:
            self._folders = await self._call(lambda: WatchedFolders([Ways(path, exclusions, own) for path in paths]))
        except OSError as error:
            raise WatchUnavailable(_reason(error)) from error

    async def changed(self) -> set[str]:
        """Paths at which something happened, gathered for a moment; empty after a second without any. Raises `WatchUnavailable`, `WatchLost`."""
        folders = self._folders
        if folders is None:
            raise WatchUnavailable("is closed")
        try:
            return await self._call(partial(folders.changed, self._stop))
        except OSError as error:
            raise WatchUnavailable(_reason(error)) from error

    def close(self) -> None:
        """Nobody waits for the thread, since a disk may not answer it."""
        self._stop.set()
        folders, self._folders = self._folders, None
        if folders is not None:
            self._thread.submit(folders.close)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the system's limit of watched folders is reached (fs.inotify.max_user_watches)"
    if error.errno == errno.EMFILE:
        return "the system's limit of watchers is reached (fs.inotify.max_user_instances)"
    return error.strerror or "error"


class Pending:
    """Folders to look at, each once, at the time when what happened there has settled."""

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._due: dict[Scope, float] = {}

    def add(self, scopes: Iterable[Scope], now: float) -> None:
        """A folder that waits already is not put off: a file that is written for hours must not hide those beside it."""
        for scope in scopes:
            self._due.setdefault(scope, now + self._settle)

    def take(self, now: float) -> list[Scope]:
        """Those that are due; folders within others that are taken with all below them are left out."""
        due = [scope for scope, moment in self._due.items() if moment <= now]
        for scope in due:
            del self._due[scope]
        deep = {path for path, all_below in due if all_below}
        return [(path, all_below) for path, all_below in due if not _covered(path, all_below, deep)]

    @property
    def next(self) -> float | None:
        return min(self._due.values(), default=None)

    def __len__(self) -> int:
        return len(self._due)

    def clear(self) -> None:
        self._due.clear()


def scopes_of(changed: Iterable[str], roots: Sequence[str]) -> set[Scope]:
    """Where to look after events at these paths. For a thread: asks the disk."""
    scopes: set[Scope] = set()
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


def _covered(path: str, all_below: bool, deep: set[str]) -> bool:
    if path in deep and not all_below:
        return True
    above = path.rpartition("/")[0]
    while above:
        if above in deep:
            return True
        above = above.rpartition("/")[0]
    return False
