"""Rules of traversal: which folders below an import path a scan and a watch enter.

Excluded folders and mediavault's own are not entered; symbolic links are followed only to folders inside the import path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from app.libraries.import_paths.overlap import OverlapCheck, ReservedFolder, identify_directory
from app.libraries.patterns.exclusions import ExclusionRules


class TraversalRules:
    """The rules for one import path. Blocking, since links are resolved on disk: call them in a thread."""

    def __init__(
        self, root: str, exclusions: ExclusionRules, reserved_folders: Collection[ReservedFolder] = ()
    ) -> None:
        """`root` is the import path. `reserved_folders` are mediavault's folders, which are never entered."""
        self.root = root
        self._forbidden_directories = OverlapCheck(reserved_folders).find_forbidden_directories(root)
        self._real_root = os.path.realpath(root)
        self._exclusions = exclusions

    def reaches(self, folder: str) -> bool:
        """Whether a walk from the import path enters every folder on the path to `folder`, and `folder` itself. True also if it no longer exists."""
        if self._exclusions.excludes_root(self.root):
            return False
        parent = self.root
        for name in folder.removeprefix(self.root).split("/")[1:]:
            is_link = os.path.islink(f"{parent}/{name}")  # noqa: PTH114 - False on errors
            if not (self.allows_link(parent, name) if is_link else self.allows_folder(parent, name)):
                return False
            parent = f"{parent}/{name}"
            if self._forbidden_directories and self._is_forbidden(parent):
                return False
        return True

    def forbidden_reason(self, status: os.stat_result) -> str | None:
        """Why a folder with this device and inode must not be entered; None if it may."""
        return self._forbidden_directories.get(identify_directory(status))

    def allows_entry(self, folder: str, entry: os.DirEntry[str]) -> bool:
        """Whether to enter this entry of `folder`; False if it is no folder. Raises `OSError`."""
        if entry.is_symlink():
            entered = self.allows_link(folder, entry.name)
        else:
            entered = entry.is_dir(follow_symlinks=False) and self.allows_folder(folder, entry.name)
        return entered and not (self._forbidden_directories and self._is_forbidden(f"{folder}/{entry.name}"))

    def allows_folder(self, folder: str, name: str) -> bool:
        """Whether to enter the folder `name`, which is not a link, by name alone."""
        return is_utf8_name(name) and not self._exclusions.excludes_folder(folder, name)

    def allows_link(self, folder: str, name: str) -> bool:
        """Whether to enter the folder that the link `name` leads to."""
        followed = self.resolve_link(folder, name)
        return followed is not None and self.allows_link_target(folder, name, *followed)

    def allows_link_target(self, folder: str, name: str, target: str, status: os.stat_result) -> bool:
        """As `allows_link`, for a link that `resolve_link` has resolved to `target` and `status`."""
        return stat.S_ISDIR(status.st_mode) and self.allows_folder(folder, name) and self._ends_loops(folder, target)

    def resolve_link(self, folder: str, name: str) -> tuple[str, os.stat_result] | None:
        """The target of a link and its status; None if the target is outside the import path or does not exist."""
        target = os.path.realpath(f"{folder}/{name}")
        if target != self._real_root and not target.startswith(self._real_root + "/"):
            return None
        try:
            return target, Path(target).stat()
        except OSError:
            return None  # dangling, or a loop of links

    def _is_forbidden(self, folder: str) -> bool:
        try:
            return self.forbidden_reason(Path(folder).stat()) is not None
        except OSError:
            return False

    def _ends_loops(self, folder: str, target: str) -> bool:
        """Whether a link in `folder` to the folder `target` can be followed without a loop: `target` does not contain the link, and `folder`
        was not reached through another link. So the result depends neither on the order of the listing nor on where the walk began."""
        real = os.path.realpath(folder)
        if real != self._real_root + folder.removeprefix(self.root):
            return False
        return real != target and not real.startswith(target + "/")


def is_utf8_name(name: str) -> bool:
    """False for a name that is not UTF-8 and thus cannot be stored in the catalogue."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
