"""Looks at a library's import paths and mount points: a few calls to the system, for a thread, since a disk may not answer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.catalog.library_records import Library
from app.libraries.apart import Place, Surroundings
from app.libraries.mounts import Mount, holder, is_network, lost, mounts_of, read_mounts


@dataclass(frozen=True, slots=True)
class RootSight:
    """One import path. `error` says why it can not be used. `mounts`: the mount points that its tree lies on; `lost`: those of
    the last complete scan that are none now, each with the folder below which its files are. `key` changes when something else is mounted."""

    path: str
    error: str | None
    mounts: tuple[str, ...]
    lost: tuple[tuple[str, str], ...]
    network: str | None
    key: tuple[object, ...] | None


def look(library: Library, own: Iterable[Place] = ()) -> list[RootSight]:
    """`own` are mediavault's folders: an import path that has come to lie in one, by a link or a mount, can not be used."""
    mounts, surroundings = read_mounts(), Surroundings(own)
    return [_look(path, library, mounts, surroundings) for path in library.import_paths]


def usable(path: str) -> str | None:
    """Why the folder can not be read; None when it can."""
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except OSError as error:
        return f"{path}: {error.strerror or 'cannot be read'}"
    return None


def free_and_total(path: str) -> tuple[int | None, int | None]:
    """Bytes of the file system, None where it does not tell."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return None, None
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def _look(path: str, library: Library, mounts: Mapping[str, Mount], surroundings: Surroundings) -> RootSight:
    error = usable(path) or surroundings.fault(path, holds=False)
    real = os.path.realpath(path)
    gone = [place for place in lost(library.mounts, mounts) if _concerns(place, real)]
    holding = mounts.get(holder(real, mounts) or "")
    kind = holding.kind if holding is not None else ""
    tree = mounts_of(real, mounts)
    return RootSight(
        path=path,
        error=error,
        mounts=tree,
        lost=tuple((place, _natural(place, path, real)) for place in gone),
        network=kind if is_network(kind) else None,
        key=None if error else (*_folder(path), *(mounts[place] for place in tree)),
    )


def _folder(path: str) -> tuple[int, int] | tuple[()]:
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino


def _concerns(place: str, root: str) -> bool:
    """The mount point holds the root, or lies below it."""
    return root == place or root.startswith(place + "/") or place.startswith(root + "/")


def _natural(place: str, path: str, real: str) -> str:
    """Where the files of the mount point are, by the paths that the catalogue has."""
    return path + place.removeprefix(real) if place.startswith(real + "/") else path
