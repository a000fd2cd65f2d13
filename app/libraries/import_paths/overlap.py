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

from app.libraries.import_paths.mount_table import (
    KERNEL_TYPES,
    MEMORY_TYPES,
    SHARED_MEMORY,
    SYSTEM_FOLDERS,
    Mount,
    find_mount_point,
    find_tree_mounts,
    is_network_type,
    read_mounts,
)

_DISKS = "/run/media"
"""Where desktops mount disks."""

DirectoryIdentity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class ReservedFolder:
    """A folder that no import path may hold, lie in, or be. `name` is what the refusal calls it. `is_offline`: its disk is, and may not even answer, so
    that where it leads to is not asked."""

    name: str
    path: str
    is_offline: bool = False


@dataclass(frozen=True, slots=True)
class _FolderLocation:
    """`device_path`: the device, and the path from the root of its file system. `ancestors`: the folder itself and those above it, as far as they are there."""

    real_path: str
    device_path: tuple[str, str] | None
    ancestors: tuple[DirectoryIdentity, ...]


class OverlapCheck:
    """Places, and what is mounted, as of now. For a thread: asks the disk."""

    def __init__(self, reserved_folders: Iterable[ReservedFolder]) -> None:
        self._mounts = read_mounts()
        self._system = [_locate_folder(folder, self._mounts) for folder in SYSTEM_FOLDERS]
        self._places: list[tuple[ReservedFolder, _FolderLocation]] = []
        for place in reserved_folders:
            self.add(place)

    def add(self, place: ReservedFolder) -> None:
        spot = _FolderLocation(place.path, None, ()) if place.is_offline else _locate_folder(place.path, self._mounts)
        self._places.append((place, spot))

    def rejection_reason(self, path: str, *, forbid_containing: bool = True) -> str | None:
        """Why this may not be an import path; None when it is apart from all places and no part of the running system. `forbid_containing`: nor may it
        hold a place."""
        spot = _locate_folder(path, self._mounts)
        if (system := self._system_folder_reason(spot)) is not None:
            return f"{path} {system}"
        for place, other in self._places:
            if _is_same_folder(spot, other):
                return f"{path} is {place.name}"
            if _is_within(spot, other):
                return f"{path} lies in {place.name}"
            if forbid_containing and (_is_within(other, spot) or self._is_mounted_below(spot.real_path, other)):
                return f"{path} holds {place.name}"
        return None

    def find_forbidden_directories(self, root: str) -> dict[DirectoryIdentity, str]:
        """The folders, by device and inode, that a walk of this import path may come to and must leave out; each with what to say of it."""
        avoided = {other.ancestors[0]: f"is {place.name}" for place, other in reversed(self._places) if other.ancestors}
        for point in self._mount_points_below(os.path.realpath(root)):
            spot = _locate_folder(point, self._mounts)
            if spot.ancestors and (system := self._system_folder_reason(spot)) is not None:
                avoided.setdefault(spot.ancestors[0], system)
            for place, other in self._places:
                if spot.ancestors and _is_within(spot, other):
                    avoided.setdefault(spot.ancestors[0], f"lies in {place.name}")
        return avoided

    def _system_folder_reason(self, spot: _FolderLocation) -> str | None:
        """A disk that is mounted below a system folder, as desktops do in `/run/media`, is none of the system's."""
        point = find_mount_point(spot.real_path, self._mounts) or "/"
        kind = self._mounts[point].fs_type if point in self._mounts else ""
        if kind in KERNEL_TYPES:
            return f"lies on a file system of the kernel ({kind})"
        for folder in self._system:
            if not (_is_same_folder(spot, folder) or _is_within(spot, folder)) or _is_in(spot.real_path, SHARED_MEMORY):
                continue
            if not _is_in(point, folder.real_path) or point == folder.real_path or kind in MEMORY_TYPES:
                fault = f"lies in {folder.real_path}, which belongs to the running system"
                return f"{fault}; if a disk is meant, it is not mounted" if _is_in(spot.real_path, _DISKS) else fault
        return None

    def _is_mounted_below(self, root: str, place: _FolderLocation) -> bool:
        for point in self._mount_points_below(root):
            spot = _locate_folder(point, self._mounts)
            if _is_same_folder(spot, place) or _is_within(spot, place) or _is_within(place, spot):
                return True
        return False

    def _mount_points_below(self, root: str) -> Sequence[str]:
        return [point for point in find_tree_mounts(root, self._mounts) if point.startswith(root + "/")]


def identify_directory(status: os.stat_result) -> DirectoryIdentity:
    return status.st_dev, status.st_ino


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _is_same_folder(one: _FolderLocation, other: _FolderLocation) -> bool:
    if one.real_path == other.real_path or (one.device_path is not None and one.device_path == other.device_path):
        return True
    return bool(one.ancestors and other.ancestors) and one.ancestors[0] == other.ancestors[0]


def _is_within(inner: _FolderLocation, outer: _FolderLocation) -> bool:
    if inner.real_path.startswith(outer.real_path + "/"):
        return True
    if inner.device_path is not None and outer.device_path is not None and inner.device_path[0] == outer.device_path[0]:
        above = outer.device_path[1].rstrip("/")
        if inner.device_path[1].startswith(above + "/") and inner.device_path[1] != outer.device_path[1]:
            return True
    return bool(outer.ancestors) and outer.ancestors[0] in inner.ancestors[1:]


def _locate_folder(path: str, mounts: Mapping[str, Mount]) -> _FolderLocation:
    real = os.path.realpath(path)
    point = find_mount_point(real, mounts)
    mount = mounts[point] if point is not None else None
    at = None
    if mount is not None and point is not None and not is_network_type(mount.fs_type):
        at = mount.device, os.path.normpath(f"{mount.root}/{real[len(point.rstrip('/')) :]}")
    return _FolderLocation(real, at, tuple(_read_ancestors(real)))


def _read_ancestors(real: str) -> Iterable[DirectoryIdentity]:
    folder = Path(real)
    for each in (folder, *folder.parents[:-1]):
        try:
            yield identify_directory(each.stat())
        except OSError:
            return
