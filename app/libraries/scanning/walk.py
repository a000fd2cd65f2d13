"""Lists the media files below a library's folders, a bounded number at a time. For a thread: every call may wait for a disk.

Only `opendir`, `readdir` and `stat` are called: nothing is opened for its content, nothing written. What cannot be read is named and
left out, never fatal. Symbolic links are followed where they lead to something inside the import path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.catalog.schema.library_records import ListedFile
from app.formats import MediaKind, find_format
from app.libraries.import_paths.overlap import ReservedFolder
from app.libraries.patterns.exclusions import ExclusionRules
from app.libraries.scanning.traversal import TraversalRules, is_utf8_name
from app.storage.local.file_reader import modification_time_ns

PART_FILES = 20_000
"""A folder with more files is handed over in parts, each compared by itself."""
MAX_REMEMBERED_UNREADABLE = 1000
"""As many unreadable places are remembered; files in others are asked for one by one before they count as gone."""
MAX_CLOCK_SKEW_SECONDS = 3600.0
"""A change further in the future than this comes from another clock, and tells nothing about whether the file rests."""
MAX_PATH_BYTES = 2600
"""Of a file or folder. PostgreSQL indexes 2,704 bytes at most, and a file that lost its name takes 37 more (see `ScanChanges.displaced`)."""
_WRAP = 1 << 64
_GONE = (errno.ENOENT, errno.ENOTDIR)
ScanScope = tuple[str, bool]
"""A folder to look at, and whether with all below it."""


@dataclass(slots=True)
class FolderListing:
    """The media files of one folder: all of them, unless it is one of several parts. `is_complete`: none of its files was left out
    because it could not be read, or was still being written."""

    folder: str
    files: list[ListedFile]
    is_part: bool = False
    is_last_part: bool = True
    is_complete: bool = True


@dataclass(slots=True)
class UnreadablePaths:
    """What could not be read: each place with the reason, the first ones of `count`."""

    count: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        if len(self.reasons) < MAX_REMEMBERED_UNREADABLE:
            self.reasons[path] = reason

    def covers(self, path: str) -> bool:
        """True where it is not known whether the file or folder is there: it, or a folder above it, could not be read."""
        if not self.reasons:
            return False
        while True:
            if path in self.reasons:
                return True
            path, slash, _ = path.rpartition("/")
            if not slash:
                return False


class FolderWalk:
    """Iterates over the listings of the folders in scope."""

    def __init__(
        self,
        root: str,
        exclusions: ExclusionRules,
        scopes: Iterable[ScanScope],
        *,
        settled_before: float | None = None,
        reserved_folders: Collection[ReservedFolder] = (),
    ) -> None:
        """`root` is the import path. `settled_before`: files that changed after this moment (seconds since 1970) are still being written:
        left out, and their folders are in `unsettled_folders`. `reserved_folders`: mediavault's folders, which are never entered."""
        self._exclusions = exclusions
        self._rules = TraversalRules(root, exclusions, reserved_folders)
        # Something may have happened where the library does not reach: in a folder that is left out, behind a link that leads away.
        self._pending = [scope for scope in scopes if self._rules.reaches(scope[0])]
        self._settled_before = settled_before
        self.unreadable = UnreadablePaths()
        self.unsettled_folders: set[str] = set()
        """Folders that hold such files."""

    def __iter__(self) -> Iterator[FolderListing]:
        while self._pending:
            folder, deep = self._pending.pop()
            yield from self._list(folder, deep)

    def iter_batches(self, files: int, folders: int) -> Iterator[list[FolderListing]]:
        """Listings together, until they hold so many files, or are so many."""
        batch: list[FolderListing] = []
        held = 0
        for listing in self:
            batch.append(listing)
            held += len(listing.files)
            if held >= files or len(batch) >= folders:
                yield batch
                batch, held = [], 0
        if batch:
            yield batch

    def _list(self, folder: str, deep: bool) -> Iterator[FolderListing]:
        if not self._fits_catalog(folder):
            return
        listing = FolderListing(folder, [])
        below: list[tuple[str, bool]] = []
        try:
            # By descriptor: the names in it are then looked up from there, and not from the root each time.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _GONE:
                self.unreadable.add(folder, _error_reason(error))
            return
        try:
            if (closed := self._rules.forbidden_reason(os.fstat(descriptor))) is not None:
                self.unreadable.add(folder, closed)
                return
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if self._add_entry(listing, entry, below, descriptor) and len(listing.files) >= PART_FILES:
                        listing.is_part, listing.is_last_part = True, False
                        yield listing
                        listing = FolderListing(folder, [], is_part=True, is_complete=listing.is_complete)
        except OSError as error:
            self.unreadable.add(folder, _error_reason(error))
            listing.is_complete = False
        finally:
            os.close(descriptor)
        if deep:
            self._pending += below
        yield listing

    def _add_entry(
        self, listing: FolderListing, entry: os.DirEntry[str], below: list[tuple[str, bool]], descriptor: int
    ) -> bool:
        """True when a file was added to the listing."""
        name = entry.name
        try:
            linked = entry.is_symlink()
            if not linked and entry.is_dir(follow_symlinks=False):
                if not self._exclusions.excludes_folder(listing.folder, name) and self._has_utf8_name(
                    listing.folder, name
                ):
                    below.append((f"{listing.folder}/{name}", True))
                return False
            followed = self._rules.resolve_link(listing.folder, name) if linked else None
            if linked and followed is None:
                return False
            if followed is not None and stat.S_ISDIR(followed[1].st_mode):
                if self._rules.allows_link_target(listing.folder, name, *followed):
                    below.append((f"{listing.folder}/{name}", True))
                return False
            kind = find_format(name)
            if kind is None or kind.kind is MediaKind.SIDECAR or self._exclusions.excludes_file(listing.folder, name):
                return False
            status = followed[1] if followed is not None else entry.stat(follow_symlinks=False)
        except OSError as error:
            return self._record_unreadable(listing, name, error)
        if not stat.S_ISREG(status.st_mode) or not self._can_be_stored(listing.folder, name):
            return False
        if self._settled_before is not None and 0 < status.st_ctime - self._settled_before < MAX_CLOCK_SKEW_SECONDS:
            listing.is_complete = False
            self.unsettled_folders.add(listing.folder)
            return False
        listing.files.append(
            (name, status.st_dev, _to_signed_inode(status), status.st_size, modification_time_ns(status))
        )
        return True

    def _record_unreadable(self, listing: FolderListing, name: str, error: OSError) -> bool:
        if error.errno not in _GONE:  # else it was taken away while the folder was listed
            self.unreadable.add(f"{listing.folder}/{name}", _error_reason(error))
            listing.is_complete = False
        return False

    def _fits_catalog(self, path: str) -> bool:
        """False for a path that no catalogue can hold."""
        if 4 * len(path) <= MAX_PATH_BYTES or len(os.fsencode(path)) <= MAX_PATH_BYTES:
            return True
        self.unreadable.add(path, f"has a path of more than {MAX_PATH_BYTES} bytes")
        return False

    def _can_be_stored(self, folder: str, name: str) -> bool:
        return self._has_utf8_name(folder, name) and self._fits_catalog(f"{folder}/{name}")

    def _has_utf8_name(self, folder: str, name: str) -> bool:
        if not is_utf8_name(name):
            self.unreadable.add(f"{folder}/{name}", "has a name that is not UTF-8")
            return False
        return True


def is_file_at(path: str, device: int, inode: int) -> bool:
    """Whether this file is there still; True also where that can not be told."""
    try:
        status = Path(path).stat()
    except OSError as error:
        return error.errno not in (*_GONE, errno.ELOOP)
    return (status.st_dev, _to_signed_inode(status)) == (device, inode)


def _to_signed_inode(status: os.stat_result) -> int:
    """As the catalogue can hold it: signed."""
    return status.st_ino if status.st_ino < _WRAP >> 1 else status.st_ino - _WRAP


def _error_reason(error: OSError) -> str:
    return error.strerror or "error"
