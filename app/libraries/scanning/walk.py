"""Walks an import path and lists its media files, a bounded number at a time. Does not compare them with the catalogue.

Only `opendir`, `readdir` and `stat` are called: no file is opened (`content_detection` opens new ones), nothing is written. What cannot be read
is recorded and left out; it does not end the walk. Symbolic links are followed if their target is inside the import path. Blocking: run it in
a thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.catalog.schema.library_records import ListedFile, ListedSidecar
from app.formats import SIDECAR_EXTENSION, MediaKind, find_format
from app.libraries.import_paths.overlap import ReservedFolder
from app.libraries.patterns.exclusions import ExclusionRules
from app.libraries.scanning.traversal import TraversalRules, is_utf8_name
from app.storage.local.file_reader import modification_time_ns, to_signed_inode

PART_FILES = 20_000
"""A folder with more files is listed in parts, each compared by itself."""
MAX_REMEMBERED_UNREADABLE = 1000
"""So many unreadable paths are remembered. Files below others are checked one by one before they count as gone."""
MAX_CLOCK_SKEW_SECONDS = 3600.0
"""A change time further in the future comes from another clock, and does not show that the file is still being written."""
MAX_PATH_BYTES = 2600
"""For files and folders. PostgreSQL indexes at most 2,704 bytes, and the path of a displaced file is 37 bytes longer (see
`ScanChanges.displaced`)."""
_GONE = (errno.ENOENT, errno.ENOTDIR)
ScanScope = tuple[str, bool]
"""A folder to list, and whether to list everything below it, too."""


@dataclass(slots=True)
class FolderListing:
    """The media files of one folder, or one part of them, and their sidecars by the files' names. `is_complete`: no file was left out because it
    could not be read or was still being written."""

    folder: str
    files: list[ListedFile]
    sidecars: dict[str, ListedSidecar] = field(default_factory=dict[str, ListedSidecar])
    is_part: bool = False
    is_last_part: bool = True
    is_complete: bool = True


@dataclass(slots=True)
class UnreadablePaths:
    """Paths that could not be read, with the reason; `reasons` holds the first of `count`."""

    count: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        if len(self.reasons) < MAX_REMEMBERED_UNREADABLE:
            self.reasons[path] = reason

    def covers(self, path: str) -> bool:
        """True if the path, or a folder above it, could not be read, so that its existence is unknown."""
        if not self.reasons:
            return False
        while True:
            if path in self.reasons:
                return True
            path, slash, _ = path.rpartition("/")
            if not slash:
                return False


class FolderWalk:
    """Iterates over the listings of the folders in `scopes`."""

    def __init__(
        self,
        root: str,
        exclusions: ExclusionRules,
        scopes: Iterable[ScanScope],
        *,
        settled_before: float | None = None,
        reserved_folders: Collection[ReservedFolder] = (),
    ) -> None:
        """`root` is the import path. `settled_before` (seconds since 1970): files that changed later count as still being written; they are left
        out, and their folders are in `unsettled_folders`. `reserved_folders`: mediavault's folders, which are never entered."""
        self._exclusions = exclusions
        self._rules = TraversalRules(root, exclusions, reserved_folders)
        # Scopes come from events, which may concern folders outside the library: excluded ones, targets of links that lead out.
        self._pending = [scope for scope in scopes if self._rules.reaches(scope[0])]
        self._settled_before = settled_before
        self.unreadable = UnreadablePaths()
        self.unsettled_folders: set[str] = set()
        """Folders with files that changed after `settled_before`."""

    def __iter__(self) -> Iterator[FolderListing]:
        while self._pending:
            folder, recursive = self._pending.pop()
            yield from self._list(folder, recursive)

    def iter_batches(self, files: int, folders: int) -> Iterator[list[FolderListing]]:
        """Groups listings into batches of at least `files` files or exactly `folders` listings; the last batch may be smaller."""
        batch: list[FolderListing] = []
        file_count = 0
        for listing in self:
            batch.append(listing)
            file_count += len(listing.files)
            if file_count >= files or len(batch) >= folders:
                yield batch
                batch, file_count = [], 0
        if batch:
            yield batch

    def _list(self, folder: str, recursive: bool) -> Iterator[FolderListing]:
        if not self._fits_catalog(folder):
            return
        listing = FolderListing(folder, [])
        subfolders: list[tuple[str, bool]] = []
        sidecar_names: set[str] = set()
        try:
            # Listed by descriptor: the kernel then resolves the names from the folder, and not from the root each time.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _GONE:
                self.unreadable.add(folder, _error_reason(error))
            return
        try:
            if (reason := self._rules.forbidden_reason(os.fstat(descriptor))) is not None:
                self.unreadable.add(folder, reason)
                return
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    added = self._add_entry(listing, entry, subfolders, sidecar_names)
                    if added and len(listing.files) >= PART_FILES:
                        self._end_part(listing, sidecar_names, descriptor)
                        yield listing
                        listing = FolderListing(folder, [], is_part=True, is_complete=listing.is_complete)
            self._add_sidecars(listing, sidecar_names, descriptor)
        except OSError as error:
            self.unreadable.add(folder, _error_reason(error))
            listing.is_complete = False
        finally:
            os.close(descriptor)
        if recursive:
            self._pending += subfolders
        yield listing

    def _add_entry(
        self,
        listing: FolderListing,
        entry: os.DirEntry[str],
        subfolders: list[tuple[str, bool]],
        sidecar_names: set[str],
    ) -> bool:
        """Adds an entry to the listing, to `subfolders` or to `sidecar_names`, if it belongs to the library. True if a file was added to the
        listing."""
        name = entry.name
        try:
            is_link = entry.is_symlink()
            if not is_link and entry.is_dir(follow_symlinks=False):
                if not self._exclusions.excludes_folder(listing.folder, name) and self._has_utf8_name(
                    listing.folder, name
                ):
                    subfolders.append((f"{listing.folder}/{name}", True))
                return False
            link_target = self._rules.resolve_link(listing.folder, name) if is_link else None
            if is_link and link_target is None:
                return False
            if link_target is not None and stat.S_ISDIR(link_target[1].st_mode):
                if self._rules.allows_link_target(listing.folder, name, *link_target):
                    subfolders.append((f"{listing.folder}/{name}", True))
                return False
            if not self._is_wanted(listing.folder, name, sidecar_names):
                return False
            status = link_target[1] if link_target is not None else entry.stat(follow_symlinks=False)
        except OSError as error:
            return self._record_unreadable(listing, name, error)
        if not stat.S_ISREG(status.st_mode) or not self._can_be_stored(listing.folder, name):
            return False
        if self._is_unsettled(listing, status):
            return False
        listing.files.append(
            (name, status.st_dev, to_signed_inode(status), status.st_size, modification_time_ns(status))
        )
        return True

    def _is_wanted(self, folder: str, name: str, sidecar_names: set[str]) -> bool:
        """Whether the name is that of a photo or video of the library. Adds that of a sidecar to `sidecar_names`."""
        media_format = find_format(name)
        if media_format is None or self._exclusions.excludes_file(folder, name):
            return False
        if media_format.kind is not MediaKind.SIDECAR:
            return True
        sidecar_names.add(name)
        return False

    def _is_unsettled(self, listing: FolderListing, status: os.stat_result) -> bool:
        """Whether the file is still being written. Then the listing is incomplete."""
        if self._settled_before is None or not 0 < status.st_ctime - self._settled_before < MAX_CLOCK_SKEW_SECONDS:
            return False
        listing.is_complete = False
        self.unsettled_folders.add(listing.folder)
        return True

    def _end_part(self, listing: FolderListing, sidecar_names: set[str], descriptor: int) -> None:
        if not listing.is_part:  # the sidecars of the first part may be listed after it
            sidecar_names |= _list_sidecar_names(descriptor)
        listing.is_part, listing.is_last_part = True, False
        self._add_sidecars(listing, sidecar_names, descriptor)

    def _add_sidecars(self, listing: FolderListing, names: Collection[str], descriptor: int) -> None:
        """Adds the sidecars of the listed files: of `photo.jpg`, `photo.jpg.xmp` before `photo.xmp`, as in Immich. Only those that belong to a file
        are examined. A file whose sidecar is still being written is left out, too."""
        if not names:
            return
        by_stem = {name[: -len(SIDECAR_EXTENSION)]: name for name in sorted(names)}  # sorted: `.xmp` replaces `.XMP`
        examined: dict[str, os.stat_result | None] = {}
        unsettled: set[str] = set()
        for file in listing.files:
            for stem in (file[0], file[0].rpartition(".")[0]):
                name = by_stem.get(stem)
                if name is None:
                    continue
                if name not in examined:
                    examined[name] = self._examine_sidecar(listing, name, descriptor)
                status = examined[name]
                if status is None:
                    continue
                if self._is_unsettled(listing, status):
                    unsettled.add(file[0])
                else:
                    listing.sidecars[file[0]] = (name, status.st_size, modification_time_ns(status))
                break
        if unsettled:
            listing.files = [file for file in listing.files if file[0] not in unsettled]

    def _examine_sidecar(self, listing: FolderListing, name: str, descriptor: int) -> os.stat_result | None:
        """The status of a sidecar; None for one that does not belong to the library or cannot be examined."""
        if self._exclusions.excludes_file(listing.folder, name) or not self._can_be_stored(listing.folder, name):
            return None  # excluded names come from `_list_sidecar_names`
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                target = self._rules.resolve_link(listing.folder, name)
                if target is None:
                    return None
                status = target[1]
        except OSError as error:
            self._record_unreadable(listing, name, error)
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def _record_unreadable(self, listing: FolderListing, name: str, error: OSError) -> bool:
        if error.errno not in _GONE:  # else it was deleted while the folder was listed
            self.unreadable.add(f"{listing.folder}/{name}", _error_reason(error))
            listing.is_complete = False
        return False

    def _fits_catalog(self, path: str) -> bool:
        """False, and recorded as unreadable, for a path that is too long for the catalogue."""
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


def _list_sidecar_names(descriptor: int) -> set[str]:
    """The names of all sidecars in the folder of the descriptor. It is opened again, since both listings would share its position. Raises `OSError`."""
    again = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        with os.scandir(again) as entries:
            return {entry.name for entry in entries if entry.name[-4:].lower() == SIDECAR_EXTENSION}
    finally:
        os.close(again)


def is_file_at(path: str, device: int, inode: int) -> bool:
    """Whether the path still leads to the file with this device and inode; True also if the disk reports an error."""
    try:
        status = Path(path).stat()
    except OSError as error:
        return error.errno not in (*_GONE, errno.ELOOP)
    return (status.st_dev, to_signed_inode(status)) == (device, inode)


def _error_reason(error: OSError) -> str:
    return error.strerror or "error"
