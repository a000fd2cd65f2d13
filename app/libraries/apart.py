"""Tells whether a folder is, lies in or holds another one, by whatever path or mount one comes to either: a bind mount has paths of its own.
What belongs to the running system (`/proc`, `/dev` and the like) is recognised the same way, and by the type of its file system.

Folders are compared by their paths with links resolved, by device and inode, and by where they are on their file system, as the kernel's table of
mounts tells. Network file systems tell that of each export by itself: of theirs only what can be seen counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.libraries.mounts import (
    KERNEL_TYPES,
    MEMORY_TYPES,
    SHARED_MEMORY,
    SYSTEM_FOLDERS,
    Mount,
    holder,
    is_network,
    mounts_of,
    read_mounts,
)

_DISKS = "/run/media"
"""Where desktops mount disks."""

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that no import path may hold, lie in, or be. `name` is what the refusal calls it. `away`: its disk is, and may not even answer, so
    that where it leads to is not asked."""

    name: str
    path: str
    away: bool = False


@dataclass(frozen=True, slots=True)
class _Spot:
    """`at`: the device, and the path from the root of its file system. `chain`: the folder itself and those above it, as far as they are there."""

    real: str
    at: tuple[str, str] | None
    chain: tuple[Identity, ...]


class Surroundings:
    """Places, and what is mounted, as of now. For a thread: asks the disk."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._mounts = read_mounts()
        self._system = [_spot(folder, self._mounts) for folder in SYSTEM_FOLDERS]
        self._places: list[tuple[Place, _Spot]] = []
        for place in places:
            self.add(place)

    def add(self, place: Place) -> None:
        spot = _Spot(place.path, None, ()) if place.away else _spot(place.path, self._mounts)
        self._places.append((place, spot))

    def fault(self, path: str, *, holds: bool = True) -> str | None:
        """Why this may not be an import path; None when it is apart from all places and no part of the running system. `holds`: nor may it
        hold a place."""
        spot = _spot(path, self._mounts)
        if (system := self._system_fault(spot)) is not None:
            return f"{path} {system}"
        for place, other in self._places:
            if _same(spot, other):
                return f"{path} is {place.name}"
            if _within(spot, other):
                return f"{path} lies in {place.name}"
            if holds and (_within(other, spot) or self._mounted_below(spot.real, other)):
                return f"{path} holds {place.name}"
        return None

    def not_to_enter(self, root: str) -> dict[Identity, str]:
        """The folders, by device and inode, that a walk of this import path may come to and must leave out; each with what to say of it."""
        avoided = {other.chain[0]: f"is {place.name}" for place, other in reversed(self._places) if other.chain}
        for point in self._points_below(os.path.realpath(root)):
            spot = _spot(point, self._mounts)
            if spot.chain and (system := self._system_fault(spot)) is not None:
                avoided.setdefault(spot.chain[0], system)
            for place, other in self._places:
                if spot.chain and _within(spot, other):
                    avoided.setdefault(spot.chain[0], f"lies in {place.name}")
        return avoided

    def _system_fault(self, spot: _Spot) -> str | None:
        """A disk that is mounted below a system folder, as desktops do in `/run/media`, is none of the system's."""
        point = holder(spot.real, self._mounts) or "/"
        kind = self._mounts[point].kind if point in self._mounts else ""
        if kind in KERNEL_TYPES:
            return f"lies on a file system of the kernel ({kind})"
        for folder in self._system:
            if not (_same(spot, folder) or _within(spot, folder)) or _is_in(spot.real, SHARED_MEMORY):
                continue
            if not _is_in(point, folder.real) or point == folder.real or kind in MEMORY_TYPES:
                fault = f"lies in {folder.real}, which belongs to the running system"
                return f"{fault}; if a disk is meant, it is not mounted" if _is_in(spot.real, _DISKS) else fault
        return None

    def _mounted_below(self, root: str, place: _Spot) -> bool:
        for point in self._points_below(root):
            spot = _spot(point, self._mounts)
            if _same(spot, place) or _within(spot, place) or _within(place, spot):
                return True
        return False

    def _points_below(self, root: str) -> Sequence[str]:
        return [point for point in mounts_of(root, self._mounts) if point.startswith(root + "/")]


def identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _same(one: _Spot, other: _Spot) -> bool:
    if one.real == other.real or (one.at is not None and one.at == other.at):
        return True
    return bool(one.chain and other.chain) and one.chain[0] == other.chain[0]


def _within(inner: _Spot, outer: _Spot) -> bool:
    if inner.real.startswith(outer.real + "/"):
        return True
    if inner.at is not None and outer.at is not None and inner.at[0] == outer.at[0]:
        above = outer.at[1].rstrip("/")
        if inner.at[1].startswith(above + "/") and inner.at[1] != outer.at[1]:
            return True
    return bool(outer.chain) and outer.chain[0] in inner.chain[1:]


def _spot(path: str, mounts: Mapping[str, Mount]) -> _Spot:
    real = os.path.realpath(path)
    point = holder(real, mounts)
    mount = mounts[point] if point is not None else None
    at = None
    if mount is not None and point is not None and not is_network(mount.kind):
        at = mount.device, os.path.normpath(f"{mount.root}/{real[len(point.rstrip('/')) :]}")
    return _Spot(real, at, tuple(_chain(real)))


def _chain(real: str) -> Iterable[Identity]:
    folder = Path(real)
    for each in (folder, *folder.parents[:-1]):
        try:
            yield identity(each.stat())
        except OSError:
            return
