"""Follows what happens in a library's folders: the kernel's events, coalesced into folders to be listed again once they have settled.

An event tells only where to look. For a folder it means to list it and all below it again: files that came into a new folder before the
kernel watched it have no events of their own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from app.libraries.walk import Scope
from app.storage.local.daemons import DaemonExecutor

T = TypeVar("T")

MOST_PENDING = 500
"""With more folders than this to look at, the whole library is looked through."""
_GATHER_MS = 1000
_QUIET_MS = 100
_WAIT_MS = 1000


class WatchUnavailable(Exception):
    """The system can not watch these folders, or not all of them; the text says why."""


class Watch:
    """Events below some folders. One thread waits for them."""

    def __init__(self) -> None:
        self._thread = DaemonExecutor("library-watch", 1)
        self._stop = threading.Event()
        self._notify: RustNotify | None = None

    async def open(self, paths: Sequence[str]) -> None:
        """Raises `WatchUnavailable`."""
        try:
            self._notify = await self._call(partial(_open, list(paths)))
        except (OSError, WatchfilesRustInternalError) as error:
            raise WatchUnavailable(_reason(error)) from error

    async def changed(self) -> set[str]:
        """Paths at which something happened, gathered for a moment; empty after a second without any. Raises `WatchUnavailable`."""
        notify = self._notify
        if notify is None:
            raise WatchUnavailable("is closed")
        try:
            found = await self._call(partial(notify.watch, _GATHER_MS, _QUIET_MS, _WAIT_MS, self._stop))
        except (OSError, RuntimeError) as error:
            raise WatchUnavailable(_reason(error)) from error
        return set() if isinstance(found, str) else {path for _, path in found}

    async def close(self) -> None:
        self._stop.set()
        notify, self._notify = self._notify, None
        if notify is not None:
            await self._call(notify.close)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _open(paths: list[str]) -> RustNotify:
    # With `ignore_permission_denied` it would pass over everything else that fails, too.
    return RustNotify(paths, False, False, 0, True, False)


def _reason(error: Exception) -> str:
    text = str(error)
    if "watch limit" in text:
        return "the system's limit of watched folders is reached (fs.inotify.max_user_watches)"
    if "os error 24" in text:
        return "the system's limit of watchers is reached (fs.inotify.max_user_instances)"
    return text.partition(" about [")[0]


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


def scopes_of(changed: Iterable[str], roots: Sequence[str]) -> tuple[set[Scope], bool]:
    """Where to look after events at these paths, and whether folders are among them. For a thread: asks the disk."""
    scopes: set[Scope] = set()
    folders = False
    for path in changed:
        root = next((root for root in roots if path == root or path.startswith(root + "/")), None)
        if root is None:
            continue
        is_folder = Path(path).is_dir()
        folders |= is_folder and path != root
        if path != root:
            scopes.add((os.path.dirname(path), False))  # noqa: PTH120 - text in, text out
        # What is gone may have been a folder.
        if is_folder or not os.path.lexists(path):
            scopes.add((path, True))
    return scopes, folders


def _covered(path: str, all_below: bool, deep: set[str]) -> bool:
    if path in deep and not all_below:
        return True
    above = path.rpartition("/")[0]
    while above:
        if above in deep:
            return True
        above = above.rpartition("/")[0]
    return False
