"""Decides whether a folder is the same as another one, inside it, or contains it, also through links and bind mounts.

Folders are compared by real path (links resolved), by device and inode, and by their path within their file system, from the kernel's mount
table. That path is not used for network file systems: they give it relative to each export. Folders of the running system (`/proc`, `/dev`
and the like) are recognised the same way, and by the type of their file system.
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

_REMOVABLE_DISKS = "/run/media"
"""Desktops mount removable disks below it."""

DirectoryIdentity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class ReservedFolder:
    """A folder that an import path, or a folder to be written into, may neither be, nor contain, nor lie in. `name` stands for it in
    error texts. `is_offline`: its disk may hang, so that only its path is compared, without a call to the disk."""

    name: str
    path: str
    is_offline: bool = False


@dataclass(frozen=True, slots=True)
class _FolderLocation:
    """What identifies a folder. `device_path`: its device, and its path from the root of that file system; None if unknown. `ancestors`:
    the folder itself and its parents, up to the first that cannot be read."""

    real_path: str
    device_path: tuple[str, str] | None
    ancestors: tuple[DirectoryIdentity, ...]


class OverlapCheck:
    """Compares folders with the reserved ones, as of the moment when it was made. Blocking: call it in a thread."""

    def __init__(self, reserved_folders: Iterable[ReservedFolder]) -> None:
        self._mounts = read_mounts()
        self._system = [_locate_folder(folder, self._mounts) for folder in SYSTEM_FOLDERS]
        self._reserved_folders: list[tuple[ReservedFolder, _FolderLocation]] = []
        for reserved in reserved_folders:
            self.add(reserved)

    def add(self, reserved: ReservedFolder) -> None:
        location = (
            _FolderLocation(reserved.path, None, ())
            if reserved.is_offline
            else _locate_folder(reserved.path, self._mounts)
        )
        self._reserved_folders.append((reserved, location))

    def rejection_reason(self, path: str, *, forbid_containing: bool = True) -> str | None:
        """Why `path` may not be used; None if it overlaps no reserved folder and is no part of the running system.
        `forbid_containing`: it may not contain a reserved folder either."""
        location = _locate_folder(path, self._mounts)
        if (system := self._system_folder_reason(location)) is not None:
            return f"{path} {system}"
        for reserved, other in self._reserved_folders:
            if _is_same_folder(location, other):
                return f"{path} is {reserved.name}"
            if _is_within(location, other):
                return f"{path} lies in {reserved.name}"
            if forbid_containing and (_is_within(other, location) or self._is_mounted_below(location.real_path, other)):
                return f"{path} holds {reserved.name}"
        return None

    def find_forbidden_directories(self, root: str) -> dict[DirectoryIdentity, str]:
        """The folders below this import path that a walk must not enter, each with the reason."""
        forbidden = {
            other.ancestors[0]: f"is {reserved.name}"
            for reserved, other in reversed(self._reserved_folders)
            if other.ancestors
        }
        for mount_point in self._mount_points_below(os.path.realpath(root)):
            location = _locate_folder(mount_point, self._mounts)
            if location.ancestors and (system := self._system_folder_reason(location)) is not None:
                forbidden.setdefault(location.ancestors[0], system)
            for reserved, other in self._reserved_folders:
                if location.ancestors and _is_within(location, other):
                    forbidden.setdefault(location.ancestors[0], f"lies in {reserved.name}")
        return forbidden

    def _system_folder_reason(self, location: _FolderLocation) -> str | None:
        """Why the folder belongs to the running system; None if it does not. A disk that is mounted below a system folder, as desktops
        do in `/run/media`, does not."""
        mount_point = find_mount_point(location.real_path, self._mounts) or "/"
        fs_type = self._mounts[mount_point].fs_type if mount_point in self._mounts else ""
        if fs_type in KERNEL_TYPES:
            return f"lies on a file system of the kernel ({fs_type})"
        for folder in self._system:
            if not (_is_same_folder(location, folder) or _is_within(location, folder)) or _is_in(
                location.real_path, SHARED_MEMORY
            ):
                continue
            if not _is_in(mount_point, folder.real_path) or mount_point == folder.real_path or fs_type in MEMORY_TYPES:
                fault = f"lies in {folder.real_path}, which belongs to the running system"
                return (
                    f"{fault}; if a disk is meant, it is not mounted"
                    if _is_in(location.real_path, _REMOVABLE_DISKS)
                    else fault
                )
        return None

    def _is_mounted_below(self, root: str, folder: _FolderLocation) -> bool:
        """Whether a mount below `root` overlaps `folder`, as a bind mount of it does."""
        for mount_point in self._mount_points_below(root):
            location = _locate_folder(mount_point, self._mounts)
            if _is_same_folder(location, folder) or _is_within(location, folder) or _is_within(folder, location):
                return True
        return False

    def _mount_points_below(self, root: str) -> Sequence[str]:
        return [
            mount_point for mount_point in find_tree_mounts(root, self._mounts) if mount_point.startswith(root + "/")
        ]


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
    mount_point = find_mount_point(real, mounts)
    mount = mounts[mount_point] if mount_point is not None else None
    device_path = None
    if mount is not None and mount_point is not None and not is_network_type(mount.fs_type):
        device_path = mount.device, os.path.normpath(f"{mount.root}/{real[len(mount_point.rstrip('/')) :]}")
    return _FolderLocation(real, device_path, tuple(_read_ancestors(real)))


def _read_ancestors(real: str) -> Iterable[DirectoryIdentity]:
    folder = Path(real)
    for each in (folder, *folder.parents[:-1]):
        try:
            yield identify_directory(each.stat())
        except OSError:
            return
