"""Which folders below an import path are the library's: none that is left out or mediavault's own, and of links only those to a folder inside."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from app.libraries.import_paths.overlap import OverlapCheck, ReservedFolder, identify_directory
from app.libraries.patterns.exclusions import ExclusionRules


class TraversalRules:
    """For a thread: asks the disk where links lead."""

    def __init__(
        self, root: str, exclusions: ExclusionRules, reserved_folders: Collection[ReservedFolder] = ()
    ) -> None:
        """`root` is the import path; `reserved_folders` are mediavault's folders, which no way leads to."""
        self.root = root
        self._forbidden_directories = OverlapCheck(reserved_folders).find_forbidden_directories(root)
        self._real_root = os.path.realpath(root)
        self._exclusions = exclusions

    def reaches(self, folder: str) -> bool:
        """Whether one comes from the import path to this folder at or below it, by the way that its path names. True also for one that is gone."""
        if self._exclusions.excludes_root(self.root):
            return False
        above = self.root
        for name in folder.removeprefix(self.root).split("/")[1:]:
            linked = os.path.islink(f"{above}/{name}")  # noqa: PTH114 - False where it can not be told
            if not (self.allows_link(above, name) if linked else self.allows_folder(above, name)):
                return False
            above = f"{above}/{name}"
            if self._forbidden_directories and self._is_forbidden(above):
                return False
        return True

    def forbidden_reason(self, status: os.stat_result) -> str | None:
        """Of a folder that one has come to."""
        return self._forbidden_directories.get(identify_directory(status))

    def allows_entry(self, folder: str, entry: os.DirEntry[str]) -> bool:
        """False for what is no folder. Raises `OSError`."""
        if entry.is_symlink():
            entered = self.allows_link(folder, entry.name)
        else:
            entered = entry.is_dir(follow_symlinks=False) and self.allows_folder(folder, entry.name)
        return entered and not (self._forbidden_directories and self._is_forbidden(f"{folder}/{entry.name}"))

    def allows_folder(self, folder: str, name: str) -> bool:
        """For a folder that is no link."""
        return is_utf8_name(name) and not self._exclusions.excludes_folder(folder, name)

    def allows_link(self, folder: str, name: str) -> bool:
        followed = self.resolve_link(folder, name)
        return followed is not None and self.allows_link_target(folder, name, *followed)

    def allows_link_target(self, folder: str, name: str, target: str, status: os.stat_result) -> bool:
        """For what `resolve_link` returned."""
        return stat.S_ISDIR(status.st_mode) and self.allows_folder(folder, name) and self._ends_loops(folder, target)

    def resolve_link(self, folder: str, name: str) -> tuple[str, os.stat_result] | None:
        """Where a link leads and what is there; None where that is not inside the import path."""
        target = os.path.realpath(f"{folder}/{name}")
        if target != self._real_root and not target.startswith(self._real_root + "/"):
            return None
        try:
            return target, Path(target).stat()
        except OSError:
            return None  # it leads nowhere, or to itself

    def _is_forbidden(self, folder: str) -> bool:
        try:
            return self.forbidden_reason(Path(folder).stat()) is not None
        except OSError:
            return False

    def _ends_loops(self, folder: str, target: str) -> bool:
        """A link in `folder` to the folder `target` is followed unless that holds the link, or the link was reached by another one. So all
        loops end, and which links are followed depends neither on the order of the listing nor on where the walk began."""
        real = os.path.realpath(folder)
        if real != self._real_root + folder.removeprefix(self.root):
            return False
        return real != target and not real.startswith(target + "/")


def is_utf8_name(name: str) -> bool:
    """False for a name that is not UTF-8, and can stand in no catalogue."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
