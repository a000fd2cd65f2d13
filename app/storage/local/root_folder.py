"""The root folder of the local backend and the folders below it: opening, making them durably, walking through them.

Everything is named relative to the root, as the UTF-8 bytes of keys. All calls block: they are made in threads.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.storage.backend import MARKER_SLACK_BYTES, DiskSpace, marker_matches
from app.storage.errors import InvalidKey, ObjectChanged, StorageUnavailable
from app.storage.key import Key, is_temporary
from app.storage.local.syscalls import ConfinedOpener

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAX_DURABLE_FOLDERS = 100_000
_LOST_AND_FOUND = "lost+found"  # only root may look into it; fsck puts nothing of ours there
_MARKER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_DeviceAndInode = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file below the root: its name as a key would have it, and whether it is a temporary one."""

    name: str
    status: os.stat_result
    is_temporary: bool


@dataclass(frozen=True, slots=True)
class FolderIdentity:
    """What the folder `folder_name` ("" is the root) was when it was last recognised, by the file `marker` in it; without one: when it
    was first seen."""

    folder_name: str
    folder_inode: _DeviceAndInode
    marker: str | None = None
    marker_inode: _DeviceAndInode | None = None


class RootFolder:
    """Holds the root open, so that it stays the same folder whatever happens to its path."""

    def __init__(self, root: Path, *, fsync: bool, create: bool = True) -> None:
        """Makes the root where it is missing, if it may `create` it. Raises OSError."""
        self.root = root
        self._fsync = fsync
        if create:
            _make_durably(root, fsync=fsync)
        self.descriptor = os.open(root, FOLDER_FLAGS)
        self.opener = ConfinedOpener(self.descriptor)
        # Whoever is still at work here when another folder has taken this one's place holds the opener, or this.
        self.close = weakref.finalize(self.opener, os.close, self.descriptor)
        self.inode = _inode_of(os.fstat(self.descriptor))
        self._durable_folders: set[bytes] = set()
        self._identities: dict[str, FolderIdentity] = {}

    def record_identities(self) -> None:
        """Remember what every folder in the root is now."""
        for name, is_folder in self._list_names(""):
            if is_folder:
                self._record_identity(name)

    def check_marker(self, marker: str, text: bytes, backend: str) -> tuple[RootFolder, FolderIdentity]:
        """The folder that is at the root's path now (this one, unless a disk came or went), and what it is known by from now on: the
        file `marker` in it holds `text`. Raises OSError, or `ObjectChanged` for another text."""
        here = self
        if _inode_of(self.root.stat()) != self.inode:
            here = RootFolder(self.root, fsync=self._fsync, create=False)
        try:
            return here, here._read_marker(marker, text, backend)
        except BaseException:
            if here is not self:
                here.close()
            raise

    def set_identity(self, identity: FolderIdentity, previous: RootFolder | None = None) -> bool:
        """From now on the folder is known by `identity`; all others by what is known of `previous`, whose place this takes. True where it is
        another folder than it was."""
        if previous is not None:
            self._identities.update(previous.identities())
        known = self._identities.get(identity.folder_name)
        self._identities[identity.folder_name] = identity
        return known is None or known.folder_inode != identity.folder_inode

    def identities(self) -> dict[str, FolderIdentity]:
        return dict(self._identities)

    def check_mounts(self, key: str, backend: str) -> None:
        """Raises `StorageUnavailable` where the root's path, or the key's first folder, or the witness in it, is another than it was: a
        disk was unmounted or mounted over it, and what is written now would vanish from sight."""
        top, slash, _ = key.partition("/")
        try:
            if _inode_of(self.root.stat()) != self.inode:
                raise StorageUnavailable(key, backend, f"{self.root} is not the folder it was (mount changed?)")
            for name in ("", top) if slash else ("",):
                self._check_identity(name, key, backend)
        except OSError as error:
            raise StorageUnavailable(key, backend, f"the media folder is gone: {error.strerror}") from error

    def check_open_folder(self, folder: int, key: str, backend: str) -> None:
        """As `check_mounts`; also raises where the open `folder` of the key is not what its name leads to."""
        self.check_mounts(key, backend)
        name = key.rpartition("/")[0]
        if self._find_inode(name or ".") != _inode_of(os.fstat(folder)):
            raise StorageUnavailable(key, backend, f"{self.root}/{name} is not the folder it was (mount changed?)")

    def disk_space(self, name: str) -> DiskSpace:
        """Of the file system that holds the folder `name` now. Raises OSError."""
        folder = self.root / name
        found = os.statvfs(folder)
        unit = found.f_frsize
        return DiskSpace(
            total=found.f_blocks * unit,
            used=(found.f_blocks - found.f_bfree) * unit,
            free=found.f_bavail * unit,
            is_writable=os.access(folder, os.W_OK | os.X_OK, effective_ids=True),
        )

    def _read_marker(self, marker: str, text: bytes, backend: str) -> FolderIdentity:
        top = marker.partition("/")[0] if "/" in marker else ""
        folder = self.open(top.encode())
        try:
            descriptor = os.open(marker.removeprefix(f"{top}/").encode(), _MARKER_FLAGS, dir_fd=folder)
            try:
                if not marker_matches(os.read(descriptor, len(text) + MARKER_SLACK_BYTES), text):
                    raise ObjectChanged(marker, backend, "holds another text")
                return FolderIdentity(top, _inode_of(os.fstat(folder)), marker, _inode_of(os.fstat(descriptor)))
            finally:
                os.close(descriptor)
        finally:
            os.close(folder)

    def _check_identity(self, folder_name: str, key: str, backend: str) -> None:
        pin = self._record_identity(folder_name) if folder_name else self._identities.get("")
        if pin is None:
            return
        if folder_name and self._find_inode(folder_name) != pin.folder_inode:
            raise StorageUnavailable(
                key, backend, f"{self.root}/{folder_name} is not the folder it was (mount changed?)"
            )
        if pin.marker not in (None, key) and self._find_inode(pin.marker) != pin.marker_inode:
            raise StorageUnavailable(key, backend, f"{self.root}/{pin.marker} is missing or another (mount changed?)")

    def _find_inode(self, name: str) -> _DeviceAndInode | None:
        try:
            return _inode_of(os.stat(name.encode(), dir_fd=self.descriptor))
        except FileNotFoundError:
            return None

    def _record_identity(self, folder_name: str) -> FolderIdentity | None:
        """What the folder was when it was first seen; None while it never was."""
        if folder_name not in self._identities:
            seen = self._find_inode(folder_name)
            if seen is None:
                return None
            self._identities[folder_name] = FolderIdentity(folder_name, seen)
        return self._identities[folder_name]

    def open(self, name: bytes) -> int:
        """A descriptor of the folder `name` (b"" is the root)."""
        return self.opener.open(name or b".", FOLDER_FLAGS)

    def make_folder(self, name: bytes) -> int:
        """A descriptor of the folder `name`; it and those above it are made where missing, and survive a power loss."""
        if name in self._durable_folders:
            try:
                return self.open(name)
            except FileNotFoundError:
                self._durable_folders.clear()
        folder = self.open(b"")
        above = b""
        for segment in name.split(b"/") if name else ():
            here = above + b"/" + segment if above else segment
            try:
                below = self._open_or_make(folder, segment, here)
            finally:
                os.close(folder)
            folder, above = below, here
        return folder

    def _open_or_make(self, folder: int, segment: bytes, name: bytes) -> int:
        """Open `segment` of the open folder, and make it where it is missing.

        Found or made, the folder above is synced before this process first relies on it: another writer may have made it a moment ago,
        and may die before it syncs.
        """
        try:
            below = self.open(name)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(segment, dir_fd=folder)
            below = self.open(name)
        if name not in self._durable_folders:
            if self._fsync:
                os.fsync(folder)
            if len(self._durable_folders) >= _MAX_DURABLE_FOLDERS:
                self._durable_folders.clear()
            self._durable_folders.add(name)
        return below

    def walk_files(self, below: str, start_after: str | None, unlisted_folders: list[str]) -> Iterator[FoundFile]:
        """Every regular file below the folder `below` ("" is the root), after `start_after` where given, segment by segment in the order of their
        code points. Links, special files and names that no key can have are left out. Folders below the root that may not be looked into are
        added to `unlisted_folders`.

        Holds the names of one folder per level, and no descriptor between two steps.
        """
        after = start_after.split("/") if start_after else []
        depth = len(below.split("/")) if below else 0
        if below and after and after[:depth] != below.split("/"):
            if after > below.split("/"):
                return
            after = []
        levels = [self._list_entries(below, after[depth : depth + 1], unlisted_folders)]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
                continue
            name, is_folder = entry
            if is_folder:
                parts = name.split("/")
                resumed = after[len(parts) : len(parts) + 1] if parts == after[: len(parts)] else []
                levels.append(self._list_entries(name, resumed, unlisted_folders))
            else:
                found = self._stat_file(name, unlisted_folders)
                if found is not None:
                    yield found

    def prune(self) -> int:
        """Remove the folders that hold nothing, but not those right below the root; how many there were."""
        return sum(self._prune(top) for top, is_folder in self._list_names("") if is_folder)

    def _prune(self, folder: str) -> int:
        pruned = 0
        try:
            names = self._list_names(folder)
        except PermissionError:
            return pruned  # who knows what it holds
        for name, is_folder in names:
            if is_folder:
                pruned += self._prune(f"{folder}/{name}")
        if "/" not in folder:
            return pruned
        try:
            os.rmdir(folder.encode(), dir_fd=self.descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.EBUSY):
                raise
            return pruned
        return pruned + 1

    def _list_entries(self, folder: str, after: list[str], unlisted_folders: list[str]) -> Iterator[tuple[str, bool]]:
        """Names (from the root) in `folder` with whether they are folders, sorted; those after the segment in `after`, and the folder
        of that name itself: what lies in it comes after it."""
        prefix = folder + "/" if folder else ""
        try:
            names = self._list_names(folder)
        except PermissionError:
            if not folder:
                raise
            unlisted_folders.append(folder)
            return
        for name, is_folder in names:
            if not after or name > after[0] or (name == after[0] and is_folder):
                yield prefix + name, is_folder

    def _list_names(self, folder: str) -> list[tuple[str, bool]]:
        try:
            descriptor = self.open(folder.encode())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError:
            if folder == _LOST_AND_FOUND:
                return []
            raise
        names: list[tuple[str, bool]] = []
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if is_folder or entry.is_file(follow_symlinks=False):
                        try:
                            names.append((os.fsencode(entry.name).decode(), is_folder))
                        except UnicodeDecodeError:
                            continue
        finally:
            os.close(descriptor)
        names.sort()
        return names

    def _stat_file(self, name: str, unlisted_folders: list[str]) -> FoundFile | None:
        temporary = is_temporary(name.rpartition("/")[2])
        if not temporary:
            try:
                Key(name)
            except InvalidKey:
                return None
        try:
            status = os.stat(name.encode(), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except PermissionError:  # the folder gives names only
            folder = name.rpartition("/")[0]
            if not folder:
                raise
            if folder not in unlisted_folders[-1:]:
                unlisted_folders.append(folder)
            return None
        return FoundFile(name, status, temporary) if stat.S_ISREG(status.st_mode) else None


def _inode_of(status: os.stat_result) -> _DeviceAndInode:
    return status.st_dev, status.st_ino


def _make_durably(folder: Path, *, fsync: bool) -> None:
    if folder.is_dir():
        return
    _make_durably(folder.parent, fsync=fsync)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    if fsync:
        above = os.open(folder.parent, FOLDER_FLAGS)
        try:
            os.fsync(above)
        finally:
            os.close(above)
