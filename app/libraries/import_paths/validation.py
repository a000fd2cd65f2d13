"""Which folders may be import paths: absolute, readable, and apart from what is ours and from one another. Each fault is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.libraries.import_paths.overlap import OverlapCheck, ReservedFolder
from app.libraries.import_paths.probe import unreadable_reason

MAX_IMPORT_PATHS = 128
MAX_PATH_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class CheckedPath:
    """`path` as it is kept; `rejection_reason` says why it may not be an import path, None where it may."""

    path: str
    rejection_reason: str | None


def check_import_paths(paths: Sequence[str], reserved_folders: Iterable[ReservedFolder]) -> list[CheckedPath]:
    """In the order given. For a thread: asks the disk."""
    surroundings = OverlapCheck(reserved_folders)
    checked: list[CheckedPath] = []
    for text in paths:
        path = text.rstrip("/") or "/"
        fault = _syntax_error_reason(path) or surroundings.rejection_reason(path) or unreadable_reason(path)
        checked.append(CheckedPath(path, fault))
        if fault is None:
            surroundings.add(ReservedFolder("another import path", path))
    return checked


def _syntax_error_reason(path: str) -> str | None:
    if not path.startswith("/"):
        return f"{path!r} is not an absolute path"
    if path == "/":
        return "/ is the whole system"
    if len(path) > MAX_PATH_CHARACTERS:
        return "a path is too long"
    if any(segment in ("", ".", "..") for segment in path[1:].split("/")):
        return f"{path!r} has an empty, '.' or '..' segment"
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"{path!r} is not UTF-8"
    return f"{path!r} holds a control character" if any(ord(character) < 32 for character in path) else None
