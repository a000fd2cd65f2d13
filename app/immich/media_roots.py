"""Translates the paths in Immich's database, which are those of its container, to paths of this machine, and looks at the files.

Nothing is opened: a file is looked at by `lstat`, after the path of its folder was compared with the real one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.immich.errors import InvalidMediaRoot, MediaRootAbsent
from app.immich.problems import ProblemKind
from app.storage.local.file_reader import modification_time_ns, to_signed_inode

_CACHED_FOLDERS = 20_000
_MAX_PATH_BYTES = 4096


@dataclass(frozen=True, slots=True)
class MediaRoot:
    """`container` is a folder as Immich sees it, `host` the same folder on this machine, without links. Both absolute, without a
    slash at their end."""

    container: str
    host: str


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file: its path on this machine, size in bytes, and identity."""

    path: str
    size: int
    device: int
    inode: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class PathProblem:
    """Why there is no file to take over at `path`, which is the one in Immich's database."""

    kind: ProblemKind
    path: str


def parse_media_roots(texts: Iterable[str], reserved: Iterable[Path] = ()) -> MediaRoots:
    """Each text is `/container/path=/host/path`, or one path that is the same for both. `reserved`: folders of this service. Raises
    `InvalidMediaRoot`."""
    roots = [_parse_root(text) for text in texts]
    if not roots:
        raise InvalidMediaRoot("--media-root is missing: where Immich's media location is, as /data=/srv/photos")
    for root in roots:
        for folder in reserved:
            own = os.path.realpath(folder)
            if _is_within(own, root.host) or _is_within(root.host, own):
                raise InvalidMediaRoot(
                    f"--media-root: {root.host} overlaps {own}, which is a folder of mediavault's own"
                )
    return MediaRoots(sorted(roots, key=lambda root: len(root.container), reverse=True))


def _parse_root(text: str) -> MediaRoot:
    container, equals, host = text.partition("=")
    if not equals:
        host = container
    for path in (container, host):
        if not path.startswith("/") or _has_odd_segment(path.rstrip("/")):
            raise InvalidMediaRoot(
                f"--media-root {text!r}: write absolute paths without '.' and '..', as /data=/srv/photos"
            )
    if not Path(host).is_dir():
        raise MediaRootAbsent(f"--media-root {text!r}: {host} is no folder")
    return MediaRoot(container.rstrip("/"), os.path.realpath(host))


class MediaRoots:
    """The longest matching root translates a path."""

    def __init__(self, roots: Sequence[MediaRoot]) -> None:
        self.roots = tuple(roots)
        self._find_link = lru_cache(_CACHED_FOLDERS)(_is_through_link)

    @property
    def host_paths(self) -> tuple[str, ...]:
        return tuple(root.host for root in self.roots)

    def translate(self, path: str) -> str | PathProblem:
        """The path on this machine. No I/O."""
        if not path.startswith("/") or "\0" in path or _has_odd_segment(path) or not _is_encodable(path):
            return PathProblem(ProblemKind.INVALID_PATH, path)
        for root in self.roots:
            if _is_within(path, root.container):
                return root.host + path[len(root.container) :]
        return PathProblem(ProblemKind.OUTSIDE_ROOTS, path)

    def find_root(self, path: str) -> MediaRoot | None:
        """The root that translates this path of Immich's."""
        return next((root for root in self.roots if _is_within(path, root.container)), None)

    def find(self, path: str) -> FoundFile | PathProblem:
        """Looks at the file. Blocks: call it in a thread."""
        translated = self.translate(path)
        if isinstance(translated, PathProblem):
            return translated
        try:
            if self._find_link(os.path.dirname(translated)):  # noqa: PTH120 - a million of them
                return PathProblem(ProblemKind.THROUGH_LINK, path)
            status = os.lstat(translated)
        except (FileNotFoundError, NotADirectoryError):
            return PathProblem(ProblemKind.MISSING_FILE, path)
        except OSError:
            return PathProblem(ProblemKind.UNREADABLE_FILE, path)
        if stat.S_ISLNK(status.st_mode):
            return PathProblem(ProblemKind.THROUGH_LINK, path)
        if not stat.S_ISREG(status.st_mode):
            return PathProblem(ProblemKind.UNREADABLE_FILE, path)
        inode = to_signed_inode(status)
        return FoundFile(translated, status.st_size, status.st_dev, inode, modification_time_ns(status))

    def find_many(self, paths: Iterable[str]) -> dict[str, FoundFile | PathProblem]:
        """As `find`, for each of the paths."""
        return {path: self.find(path) for path in paths}


def _is_through_link(folder: str) -> bool:
    """Whether the path of the folder leads through a link. Raises OSError if there is no such folder."""
    return os.path.realpath(folder, strict=True) != folder


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _has_odd_segment(path: str) -> bool:
    return any(segment in ("", ".", "..") for segment in path[1:].split("/"))


def _is_encodable(path: str) -> bool:
    try:
        return len(path.encode()) < _MAX_PATH_BYTES
    except UnicodeEncodeError:
        return False
