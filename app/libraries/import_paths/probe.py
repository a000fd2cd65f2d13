"""Looks at a library's import paths and mount points: a few calls to the system, for a thread, since a disk may not answer."""

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
    """One import path. `error` says why it can not be used. `mounts`: the mount points that its tree lies on; `lost_mounts`: those of
    the last complete scan that are none now, each with the folder below which its files are. `mount_fingerprint` changes when something else is mounted."""

    path: str
    error: str | None
    mounts: tuple[str, ...]
    lost_mounts: tuple[tuple[str, str], ...]
    network_fs_type: str | None
    mount_fingerprint: tuple[object, ...] | None


def probe_import_paths(library: Library, reserved_folders: Iterable[ReservedFolder] = ()) -> list[ImportPathStatus]:
    """`reserved_folders` are mediavault's folders: an import path that has come to lie in one, by a link or a mount, can not be used."""
    mounts, surroundings = read_mounts(), OverlapCheck(reserved_folders)
    return [_probe_import_path(path, library, mounts, surroundings) for path in library.import_paths]


def unreadable_reason(path: str) -> str | None:
    """Why the folder can not be read; None when it can."""
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except OSError as error:
        return f"{path}: {error.strerror or 'cannot be read'}"
    return None


def read_disk_space(path: str) -> tuple[int | None, int | None]:
    """Bytes of the file system, None where it does not tell."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return None, None
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def _probe_import_path(
    path: str, library: Library, mounts: Mapping[str, Mount], surroundings: OverlapCheck
) -> ImportPathStatus:
    error = unreadable_reason(path) or surroundings.rejection_reason(path, forbid_containing=False)
    real = os.path.realpath(path)
    gone = [place for place in find_lost_mounts(library.mounts, mounts) if _is_mount_of_root(place, real)]
    holding = mounts.get(find_mount_point(real, mounts) or "")
    kind = holding.fs_type if holding is not None else ""
    tree = find_tree_mounts(real, mounts)
    return ImportPathStatus(
        path=path,
        error=error,
        mounts=tree,
        lost_mounts=tuple((place, _to_catalog_path(place, path, real)) for place in gone),
        network_fs_type=kind if is_network_type(kind) else None,
        mount_fingerprint=None if error else (*_read_folder_identity(path), *(mounts[place] for place in tree)),
    )


def _read_folder_identity(path: str) -> tuple[int, int] | tuple[()]:
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino


def _is_mount_of_root(place: str, root: str) -> bool:
    """The mount point holds the root, or lies below it."""
    return root == place or root.startswith(place + "/") or place.startswith(root + "/")


def _to_catalog_path(place: str, path: str, real: str) -> str:
    """Where the files of the mount point are, by the paths that the catalogue has."""
    return path + place.removeprefix(real) if place.startswith(real + "/") else path
