"""The tree of folders of a library that inotify watches: the same folders that a scan enters, kept up to date as folders come, go and are renamed."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from inotify_simple import Event, INotify, flags

from app.libraries.scanning.traversal import TraversalRules, is_utf8_name

_GATHER_SECONDS = 1.0
_PAUSE_SECONDS = 0.01
_QUIET_MS = 100
_WAITS = 10
_LIMITS = (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_ARRIVED = flags.CREATE | flags.MOVED_TO
_LEFT = flags.DELETE | flags.MOVED_FROM
_WATCHED_EVENTS = (
    _ARRIVED | _LEFT | flags.MODIFY | flags.ATTRIB | flags.CLOSE_WRITE | flags.DELETE_SELF | flags.MOVE_SELF
)
_WATCH_FLAGS = flags.ONLYDIR | flags.DONT_FOLLOW | flags.EXCL_UNLINK


class WatchLost(Exception):
    """Events may have been lost: the watch must be set up again and the library scanned. The text says why."""


@dataclass(slots=True, eq=False)
class _WatchedFolder:
    """`name` is the last segment of the path; for a folder without a parent it is the whole import path."""

    name: str
    parent: _WatchedFolder | None
    rules: TraversalRules
    watch_descriptor: int
    children: dict[str, _WatchedFolder] = field(default_factory=dict["str", "_WatchedFolder"])

    @property
    def path(self) -> str:
        names: list[str] = []
        folder: _WatchedFolder | None = self
        while folder is not None:
            names.append(folder.name)
            folder = folder.parent
        return "/".join(reversed(names))


class WatchedTree:
    """An inotify instance and its watched folders. Blocking, and for one thread at a time."""

    def __init__(self, rules: Iterable[TraversalRules]) -> None:
        """Raises `OSError` if a limit of the kernel is reached, or it cannot watch at all."""
        self._inotify = INotify()
        self._folders: dict[int, list[_WatchedFolder]] = {}
        """By watch descriptor. Several, if symbolic links lead to the same folder: the kernel has one watch per inode."""
        try:
            for root_rules in rules:
                self._watch_tree(root_rules, root_rules.root, None, is_link=True)
        except BaseException:
            self.close()
            raise

    def read_changed_paths(self, stop: threading.Event) -> set[str]:
        """Paths with events, collected for up to a second; empty after a second without any. Raises `WatchLost`, `OSError`."""
        changed: set[str] = set()
        events: list[Event] = []
        for _ in range(_WAITS):
            if stop.is_set() or (events := self._inotify.read(_QUIET_MS)):
                break
        end = time.monotonic() + _GATHER_SECONDS
        while events:
            for event in events:
                self._handle_event(event, changed)
            # A pause, instead of a read per event: a file that is being written causes thousands a second.
            if stop.wait(_PAUSE_SECONDS) or not changed or time.monotonic() >= end:
                break
            events = self._inotify.read(_QUIET_MS)
        return changed

    def __len__(self) -> int:
        return len(self._folders)

    def close(self) -> None:
        self._inotify.close()

    def _handle_event(self, event: Event, changed: set[str]) -> None:
        if event.mask & flags.Q_OVERFLOW:
            raise WatchLost("more happened at once than the system remembers")
        folders = self._folders.get(event.wd, [])
        if event.mask & flags.UNMOUNT and folders:
            raise WatchLost(f"{folders[0].path} was unmounted")
        for folder in tuple(folders):
            if event.mask & (flags.IGNORED | flags.DELETE_SELF | flags.MOVE_SELF) and folder.parent is None:
                raise WatchLost(f"{folder.path} was removed or renamed")
            if event.name:
                self._handle_entry_event(folder, event, changed)
            elif folder.parent is None:
                changed.add(folder.path)
        if event.mask & flags.IGNORED:
            for folder in self._folders.pop(event.wd, ()):
                self._detach(folder)

    def _handle_entry_event(self, folder: _WatchedFolder, event: Event, changed: set[str]) -> None:
        if not is_utf8_name(event.name):
            return
        path = f"{folder.path}/{event.name}"
        changed.add(path)
        if event.mask & (_ARRIVED | _LEFT) and (former := folder.children.get(event.name)) is not None:
            # The name may belong to another folder now. It does not, if the parent was listed just after the folder had come.
            self._unwatch_tree(former)
        if event.mask & flags.ISDIR:
            # A folder that could not be read before may be readable now.
            if event.mask & (_ARRIVED | flags.ATTRIB) and folder.rules.allows_folder(folder.path, event.name):
                self._watch_tree(folder.rules, event.name, folder, is_link=False)
        elif event.mask & _ARRIVED and os.path.islink(path) and folder.rules.allows_link(folder.path, event.name):  # noqa: PTH114 - raises nothing
            self._watch_tree(folder.rules, event.name, folder, is_link=True)

    def _watch_tree(self, rules: TraversalRules, name: str, parent: _WatchedFolder | None, *, is_link: bool) -> None:
        """Watches a folder and all below it. Each is watched before it is listed, so that no subfolder is missed."""
        pending = [(name, parent, is_link)]
        while pending:
            name, parent, is_link = pending.pop()
            if parent is not None and name in parent.children:
                continue
            path = name if parent is None else f"{parent.path}/{name}"
            try:
                watch_descriptor = self._inotify.add_watch(
                    os.path.realpath(path) if is_link else path, _WATCHED_EVENTS | _WATCH_FLAGS
                )
                folder = _WatchedFolder(name, parent, rules, watch_descriptor)
                self._folders.setdefault(watch_descriptor, []).append(folder)
                if parent is not None:
                    parent.children[name] = folder
                with os.scandir(path) as entries:
                    pending += [
                        (entry.name, folder, entry.is_symlink()) for entry in entries if rules.allows_entry(path, entry)
                    ]
            except OSError as error:
                # A folder that is gone or cannot be read is not scanned either.
                if error.errno in _LIMITS or parent is None:
                    raise

    def _unwatch_tree(self, folder: _WatchedFolder) -> None:
        """Forgets a folder and all below it, after it was removed or renamed."""
        self._detach(folder)
        pending = [folder]
        while pending:
            each = pending.pop()
            pending += each.children.values()
            watched = self._folders.get(each.watch_descriptor)
            if watched is None:
                continue
            watched.remove(each)
            if not watched:
                del self._folders[each.watch_descriptor]
                with suppress(OSError):  # the kernel may have removed the watch
                    self._inotify.rm_watch(each.watch_descriptor)

    @staticmethod
    def _detach(folder: _WatchedFolder) -> None:
        if folder.parent is not None and folder.parent.children.get(folder.name) is folder:
            del folder.parent.children[folder.name]
