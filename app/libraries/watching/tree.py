"""The folders of a library that the kernel watches: those that a walk enters and no others, kept up as folders come, go and are renamed."""

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
    """Not all events come any more: the watch is to be set anew, and everything looked through. The text says why."""


@dataclass(slots=True, eq=False)
class _WatchedFolder:
    """`name` is the whole import path where there is none above."""

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
    """For one thread at a time: every call may wait for a disk."""

    def __init__(self, rules: Iterable[TraversalRules]) -> None:
        """Raises `OSError` where a limit of the system is reached, or it can not watch at all."""
        self._inotify = INotify()
        self._folders: dict[int, list[_WatchedFolder]] = {}
        """By watch: a folder has several places where links lead to it."""
        try:
            for ways in rules:
                self._watch_tree(ways, ways.root, None, linked=True)
        except BaseException:
            self.close()
            raise

    def read_changed_paths(self, stop: threading.Event) -> set[str]:
        """Paths at which something happened, gathered for a moment; empty after a second without any. Raises `WatchLost`, `OSError`."""
        changed: set[str] = set()
        events: list[Event] = []
        for _ in range(_WAITS):
            if stop.is_set() or (events := self._inotify.read(_QUIET_MS)):
                break
        end = time.monotonic() + _GATHER_SECONDS
        while events:
            for event in events:
                self._handle_event(event, changed)
            # Not at each event: a file that is being written has thousands a second.
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
            # What comes now may be another one; it is not, where its parent was listed just after it had come.
            self._unwatch_tree(former)
        if event.mask & flags.ISDIR:
            # A folder that could not be read before may be readable now.
            if event.mask & (_ARRIVED | flags.ATTRIB) and folder.rules.allows_folder(folder.path, event.name):
                self._watch_tree(folder.rules, event.name, folder, linked=False)
        elif event.mask & _ARRIVED and os.path.islink(path) and folder.rules.allows_link(folder.path, event.name):  # noqa: PTH114 - raises nothing
            self._watch_tree(folder.rules, event.name, folder, linked=True)

    def _watch_tree(self, rules: TraversalRules, name: str, above: _WatchedFolder | None, *, linked: bool) -> None:
        """A folder and all below it: first watched, then listed, so that none falls between."""
        pending = [(name, above, linked)]
        while pending:
            name, above, linked = pending.pop()
            if above is not None and name in above.children:
                continue
            path = name if above is None else f"{above.path}/{name}"
            try:
                watch = self._inotify.add_watch(
                    os.path.realpath(path) if linked else path, _WATCHED_EVENTS | _WATCH_FLAGS
                )
                folder = _WatchedFolder(name, above, rules, watch)
                self._folders.setdefault(watch, []).append(folder)
                if above is not None:
                    above.children[name] = folder
                with os.scandir(path) as entries:
                    pending += [
                        (each.name, folder, each.is_symlink()) for each in entries if rules.allows_entry(path, each)
                    ]
            except OSError as error:
                # What is gone or can not be read is not walked either.
                if error.errno in _LIMITS or above is None:
                    raise

    def _unwatch_tree(self, folder: _WatchedFolder) -> None:
        """It and all below it are no longer where they were."""
        self._detach(folder)
        dropped = [folder]
        while dropped:
            each = dropped.pop()
            dropped += each.children.values()
            places = self._folders.get(each.watch_descriptor)
            if places is None:
                continue
            places.remove(each)
            if not places:
                del self._folders[each.watch_descriptor]
                with suppress(OSError):  # the kernel may have removed it
                    self._inotify.rm_watch(each.watch_descriptor)

    @staticmethod
    def _detach(folder: _WatchedFolder) -> None:
        if folder.parent is not None and folder.parent.children.get(folder.name) is folder:
            del folder.parent.children[folder.name]
