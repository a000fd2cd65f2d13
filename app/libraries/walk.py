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

from app.catalog.library_records import Found
from app.formats import Kind, supported
from app.libraries.apart import Place
from app.libraries.exclusions import Exclusions
from app.libraries.ways import Ways, is_text
from app.storage.local.reading import modified_ns

PART_FILES = 20_000
"""A folder with more files is handed over in parts, each compared by itself."""
NAMED_UNREADABLE = 1000
"""As many unreadable places are remembered; files in others are asked for one by one before they count as gone."""
SKEW_SECONDS = 3600.0
"""A change further in the future than this comes from another clock, and tells nothing about whether the file rests."""
MOST_PATH_BYTES = 2600
"""Of a file or folder. PostgreSQL indexes 2,704 bytes at most, and a file that lost its name takes 37 more (see `Changes.displaced`)."""
_WRAP = 1 << 64
_GONE = (errno.ENOENT, errno.ENOTDIR)
Scope = tuple[str, bool]
"""A folder to look at, and whether with all below it."""


@dataclass(slots=True)
class Listing:
    """The media files of one folder: all of them, unless it is one of several parts. `whole`: none of its files was left out
    because it could not be read, or was still being written."""

    folder: str
    files: list[Found]
    part: bool = False
    last: bool = True
    whole: bool = True


@dataclass(slots=True)
class Troubles:
    """What could not be read: each place with the reason, the first ones of `count`."""

    count: int = 0
    places: dict[str, str] = field(default_factory=dict)

    def note(self, path: str, reason: str) -> None:
        self.count += 1
        if len(self.places) < NAMED_UNREADABLE:
            self.places[path] = reason

    def hides(self, path: str) -> bool:
        """True where it is not known whether the file or folder is there: it, or a folder above it, could not be read."""
        if not self.places:
            return False
        while True:
            if path in self.places:
                return True
            path, slash, _ = path.rpartition("/")
            if not slash:
                return False


class Walk:
    """Iterates over the listings of the folders in scope."""

    def __init__(
        self,
        root: str,
        exclusions: Exclusions,
        scopes: Iterable[Scope],
        *,
        rest_before: float | None = None,
        own: Collection[Place] = (),
    ) -> None:
        """`root` is the import path. `rest_before`: files that changed after this moment (seconds since 1970) are still being written:
        left out, and their folders are in `unsettled`. `own`: mediavault's folders, which are never entered."""
        self._exclusions = exclusions
        self._ways = Ways(root, exclusions, own)
        # Something may have happened where the library does not reach: in a folder that is left out, behind a link that leads away.
        self._pending = [scope for scope in scopes if self._ways.lead_to(scope[0])]
        self._rest_before = rest_before
        self.troubles = Troubles()
        self.unsettled: set[str] = set()
        """Folders that hold such files."""

    def __iter__(self) -> Iterator[Listing]:
        while self._pending:
            folder, deep = self._pending.pop()
            yield from self._list(folder, deep)

    def batches(self, files: int, folders: int) -> Iterator[list[Listing]]:
        """Listings together, until they hold so many files, or are so many."""
        batch: list[Listing] = []
        held = 0
        for listing in self:
            batch.append(listing)
            held += len(listing.files)
            if held >= files or len(batch) >= folders:
                yield batch
                batch, held = [], 0
        if batch:
            yield batch

    def _list(self, folder: str, deep: bool) -> Iterator[Listing]:
        if not self._fits(folder):
            return
        listing = Listing(folder, [])
        below: list[tuple[str, bool]] = []
        try:
            # By descriptor: the names in it are then looked up from there, and not from the root each time.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _GONE:
                self.troubles.note(folder, _reason(error))
            return
        try:
            if (closed := self._ways.why_closed(os.fstat(descriptor))) is not None:
                self.troubles.note(folder, closed)
                return
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if self._enter(listing, entry, below, descriptor) and len(listing.files) >= PART_FILES:
                        listing.part, listing.last = True, False
                        yield listing
                        listing = Listing(folder, [], part=True, whole=listing.whole)
        except OSError as error:
            self.troubles.note(folder, _reason(error))
            listing.whole = False
        finally:
            os.close(descriptor)
        if deep:
            self._pending += below
        yield listing

    def _enter(self, listing: Listing, entry: os.DirEntry[str], below: list[tuple[str, bool]], descriptor: int) -> bool:
        """True when a file was added to the listing."""
        name = entry.name
        try:
            linked = entry.is_symlink()
            if not linked and entry.is_dir(follow_symlinks=False):
                if not self._exclusions.leaves_out_folder(listing.folder, name) and self._nameable(
                    listing.folder, name
                ):
                    below.append((f"{listing.folder}/{name}", True))
                return False
            followed = self._ways.follow(listing.folder, name) if linked else None
            if linked and followed is None:
                return False
            if followed is not None and stat.S_ISDIR(followed[1].st_mode):
                if self._ways.enter_followed(listing.folder, name, *followed):
                    below.append((f"{listing.folder}/{name}", True))
                return False
            kind = supported(name)
            if kind is None or kind.kind is Kind.SIDECAR or self._exclusions.leaves_out_file(listing.folder, name):
                return False
            status = followed[1] if followed is not None else entry.stat(follow_symlinks=False)
        except OSError as error:
            return self._unreadable(listing, name, error)
        if not stat.S_ISREG(status.st_mode) or not self._holdable(listing.folder, name):
            return False
        if self._rest_before is not None and 0 < status.st_ctime - self._rest_before < SKEW_SECONDS:
            listing.whole = False
            self.unsettled.add(listing.folder)
            return False
        listing.files.append((name, status.st_dev, _inode(status), status.st_size, modified_ns(status)))
        return True

    def _unreadable(self, listing: Listing, name: str, error: OSError) -> bool:
        if error.errno not in _GONE:  # else it was taken away while the folder was listed
            self.troubles.note(f"{listing.folder}/{name}", _reason(error))
            listing.whole = False
        return False

    def _fits(self, path: str) -> bool:
        """False for a path that no catalogue can hold."""
        if 4 * len(path) <= MOST_PATH_BYTES or len(os.fsencode(path)) <= MOST_PATH_BYTES:
            return True
        self.troubles.note(path, f"has a path of more than {MOST_PATH_BYTES} bytes")
        return False

    def _holdable(self, folder: str, name: str) -> bool:
        return self._nameable(folder, name) and self._fits(f"{folder}/{name}")

    def _nameable(self, folder: str, name: str) -> bool:
        if not is_text(name):
            self.troubles.note(f"{folder}/{name}", "has a name that is not UTF-8")
            return False
        return True


def is_at(path: str, device: int, inode: int) -> bool:
    """Whether this file is there still; True also where that can not be told."""
    try:
        status = Path(path).stat()
    except OSError as error:
        return error.errno not in (*_GONE, errno.ELOOP)
    return (status.st_dev, _inode(status)) == (device, inode)


def _inode(status: os.stat_result) -> int:
    """As the catalogue can hold it: signed."""
    return status.st_ino if status.st_ino < _WRAP >> 1 else status.st_ino - _WRAP


def _reason(error: OSError) -> str:
    return error.strerror or "error"
