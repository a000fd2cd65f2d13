"""`RootFolder`: opens, makes, lists and removes the folders of the local backend, and detects disks that were unmounted or replaced.

Names are relative to the root. All calls block: they are made in threads.
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
_LOST_AND_FOUND = "lost+found"  # only the superuser may list it; it holds no objects
_MARKER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_DeviceAndInode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file below the root; `name` is relative to the root, as in a key."""

    name: str
    status: os.stat_result
    is_temporary: bool


@dataclass(frozen=True, slots=True)
class FolderIdentity:
    """Device and inode of the folder `folder_name` ("" is the root), and of the file `marker` in it, when that was last checked. Without a
    marker: those of the folder when it was first seen."""

    folder_name: str
    folder_inode: _DeviceAndInode
    marker: str | None = None
    marker_inode: _DeviceAndInode | None = None


class RootFolder:
    """Keeps the root open, so that it stays the same folder whatever happens to its path."""

    def __init__(self, root: Path, *, fsync: bool, create: bool = True) -> None:
        """With `create` the root is made where it is missing. Raises OSError."""
        self.root = root
        self._fsync = fsync
        if create:
            _make_durably(root, fsync=fsync)
        self.descriptor = os.open(root, FOLDER_FLAGS)
        self.opener = ConfinedOpener(self.descriptor)
        # Calls that still run when the backend has switched to another root hold a reference to the opener, or to this object.
        self.close = weakref.finalize(self.opener, os.close, self.descriptor)
        self.inode = _inode_of(os.fstat(self.descriptor))
        self._durable_folders: set[bytes] = set()
        self._identities: dict[str, FolderIdentity] = {}

    def record_identities(self) -> None:
        """Record the identity of every folder right below the root."""
        for name, is_folder in self._list_names(""):
            if is_folder:
                self._record_identity(name)

    def check_marker(self, marker: str, text: bytes, backend: str) -> tuple[RootFolder, FolderIdentity]:
        """Checks that the file `marker` holds `text`. Returns the root folder that is at the root's path now (this one, unless a disk was
        mounted or unmounted), and the identity of the marker's folder. Raises OSError, or `ObjectChanged` for another text."""
        current = self
        if _inode_of(self.root.stat()) != self.inode:
            current = RootFolder(self.root, fsync=self._fsync, create=False)
        try:
            return current, current._read_marker(marker, text, backend)
        except BaseException:
            if current is not self:
                current.close()
            raise

    def set_identity(self, identity: FolderIdentity, previous: RootFolder | None = None) -> bool:
        """Replace the recorded identity of one folder; where this takes the place of `previous`, take over its other identities. Returns
        True where the folder has another inode than before, or was not recorded."""
        if previous is not None:
            self._identities.update(previous.identities())
        known = self._identities.get(identity.folder_name)
        self._identities[identity.folder_name] = identity
        return known is None or known.folder_inode != identity.folder_inode

    def identities(self) -> dict[str, FolderIdentity]:
        return dict(self._identities)

    def check_mounts(self, key: str, backend: str) -> None:
        """Raises `StorageUnavailable` where the root's path, the key's first folder, or the marker in it leads to another inode than
        recorded: a disk was unmounted or mounted over it, and an object written now would be hidden later."""
        top, slash, _ = key.partition("/")
        try:
            if _inode_of(self.root.stat()) != self.inode:
                raise StorageUnavailable(key, backend, f"{self.root} is not the folder it was (mount changed?)")
            for name in ("", top) if slash else ("",):
                self._check_identity(name, key, backend)
        except OSError as error:
            raise StorageUnavailable(key, backend, f"the media folder is gone: {error.strerror}") from error

    def check_open_folder(self, folder: int, key: str, backend: str) -> None:
        """As `check_mounts`; also raises where the name of the key's folder no longer leads to the open descriptor `folder`."""
        self.check_mounts(key, backend)
        name = key.rpartition("/")[0]
        if self._find_inode(name or ".") != _inode_of(os.fstat(folder)):
            raise StorageUnavailable(key, backend, f"{self.root}/{name} is not the folder it was (mount changed?)")

    def disk_space(self, name: str) -> DiskSpace:
        """The space of the file system that holds the folder `name` now. Raises OSError."""
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
        identity = self._record_identity(folder_name) if folder_name else self._identities.get("")
        if identity is None:
            return
        if folder_name and self._find_inode(folder_name) != identity.folder_inode:
            raise StorageUnavailable(
                key, backend, f"{self.root}/{folder_name} is not the folder it was (mount changed?)"
            )
        if identity.marker not in (None, key) and self._find_inode(identity.marker) != identity.marker_inode:
            raise StorageUnavailable(
                key, backend, f"{self.root}/{identity.marker} is missing or another (mount changed?)"
            )

    def _find_inode(self, name: str) -> _DeviceAndInode | None:
        try:
            return _inode_of(os.stat(name.encode(), dir_fd=self.descriptor))
        except FileNotFoundError:
            return None

    def _record_identity(self, folder_name: str) -> FolderIdentity | None:
        """The recorded identity of the folder, recorded now where it is new; None where the folder is missing."""
        if folder_name not in self._identities:
            inode = self._find_inode(folder_name)
            if inode is None:
                return None
            self._identities[folder_name] = FolderIdentity(folder_name, inode)
        return self._identities[folder_name]

    def open(self, name: bytes) -> int:
        """A descriptor of the folder `name` (b"" is the root)."""
        return self.opener.open(name or b".", FOLDER_FLAGS)

    def make_folder(self, name: bytes) -> int:
        """A descriptor of the folder `name`. The folder and its parents are made where missing, and synced."""
        if name in self._durable_folders:
            try:
                return self.open(name)
            except FileNotFoundError:
                self._durable_folders.clear()
        folder = self.open(b"")
        above = b""
        for segment in name.split(b"/") if name else ():
            current = above + b"/" + segment if above else segment
            try:
                below = self._open_or_make(folder, segment, current)
            finally:
                os.close(folder)
            folder, above = below, current
        return folder

    def _open_or_make(self, folder: int, segment: bytes, name: bytes) -> int:
        """Open `segment` of the open folder, and make it where it is missing.

        The parent is synced before this process first relies on the folder, even where it already exists: another writer may have made
        it a moment ago, and may be killed before it syncs.
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
        """Every regular file below the folder `below` ("" is the root), after `start_after` where given, sorted segment by segment by code
        points. Links, special files and names that are no valid keys are left out. Folders below the root that may not be listed are
        added to `unlisted_folders`.

        Holds the names of one folder per level in memory, and no open descriptor between two files.
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
        """Remove empty folders, but not those right below the root; returns how many."""
        return sum(self._prune(top) for top, is_folder in self._list_names("") if is_folder)

    def _prune(self, folder: str) -> int:
        pruned = 0
        try:
            names = self._list_names(folder)
        except PermissionError:
            return pruned  # its content is unknown
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
        """Names (relative to the root) in `folder`, sorted, each with whether it is a folder. Only those after the segment in `after`, and
        the folder of that name itself, because its files come after it."""
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
        except PermissionError:  # the folder may be listed, but not searched
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
