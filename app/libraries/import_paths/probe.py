"""Probes a library's import paths and mount points with a few system calls. Does not list files. Blocking: a call may hang on a dead disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.catalog.schema.library_records import Library
from app.libraries.import_paths.mount_table import (
    Mount,
    find_lost_mounts,
    find_mount_point,
    find_tree_mounts,
    is_network_type,
    read_mounts,
)
from app.libraries.import_paths.overlap import OverlapCheck, ReservedFolder


@dataclass(frozen=True, slots=True)
class ImportPathStatus:
    """One import path as probed. `error`: why it cannot be used; None if it can. `mounts`: the mount points that its tree spans.
    `lost_mounts`: mount points of the last full scan that are no longer mount points, each with the folder below which the catalogue has
    its files. `network_fs_type`: the file system's type if it is a network one. `mount_fingerprint` changes when something else is mounted."""

    path: str
    error: str | None
    mounts: tuple[str, ...]
    lost_mounts: tuple[tuple[str, str], ...]
    network_fs_type: str | None
    mount_fingerprint: tuple[object, ...] | None


def probe_import_paths(library: Library, reserved_folders: Iterable[ReservedFolder] = ()) -> list[ImportPathStatus]:
    """The status of each import path, in their order. `reserved_folders` are mediavault's folders: an import path that lies in one, by a link or
    a mount that was made later, gets an `error`."""
    mounts, overlap_check = read_mounts(), OverlapCheck(reserved_folders)
    return [_probe_import_path(path, library, mounts, overlap_check) for path in library.import_paths]


def unreadable_reason(path: str) -> str | None:
    """Why the folder cannot be read; None if it can."""
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except OSError as error:
        return f"{path}: {error.strerror or 'cannot be read'}"
    return None


def read_disk_space(path: str) -> tuple[int | None, int | None]:
    """Free and total bytes of the file system; None if the call fails."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return None, None
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def _probe_import_path(
    path: str, library: Library, mounts: Mapping[str, Mount], overlap_check: OverlapCheck
) -> ImportPathStatus:
    error = unreadable_reason(path) or overlap_check.rejection_reason(path, forbid_containing=False)
    real = os.path.realpath(path)
    lost_mount_points = [
        mount_point for mount_point in find_lost_mounts(library.mounts, mounts) if _is_mount_of_root(mount_point, real)
    ]
    mount = mounts.get(find_mount_point(real, mounts) or "")
    fs_type = mount.fs_type if mount is not None else ""
    tree = find_tree_mounts(real, mounts)
    return ImportPathStatus(
        path=path,
        error=error,
        mounts=tree,
        lost_mounts=tuple(
            (mount_point, _to_catalog_path(mount_point, path, real)) for mount_point in lost_mount_points
        ),
        network_fs_type=fs_type if is_network_type(fs_type) else None,
        mount_fingerprint=None
        if error
        else (*_read_folder_identity(path), *(mounts[mount_point] for mount_point in tree)),
    )


def _read_folder_identity(path: str) -> tuple[int, int] | tuple[()]:
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino


def _is_mount_of_root(mount_point: str, root: str) -> bool:
    """Whether the mount point is the root, above it or below it."""
    return root == mount_point or root.startswith(mount_point + "/") or mount_point.startswith(root + "/")


def _to_catalog_path(mount_point: str, path: str, real: str) -> str:
    """The mount point's path as the catalogue has it: below the import path, links not resolved."""
    return path + mount_point.removeprefix(real) if mount_point.startswith(real + "/") else path
