"""Validates new import paths: absolute, readable, and without overlap with mediavault's folders, other libraries or one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.libraries.import_paths.overlap import OverlapCheck, ReservedFolder
from app.libraries.import_paths.probe import unreadable_reason

MAX_IMPORT_PATHS = 128
MAX_PATH_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class CheckedPath:
    """`path` as the catalogue will have it. `rejection_reason`: why it may not be an import path; None if it may."""

    path: str
    rejection_reason: str | None


def check_import_paths(paths: Sequence[str], reserved_folders: Iterable[ReservedFolder]) -> list[CheckedPath]:
    """One result for each path, in their order. Blocking: call it in a thread."""
    overlap_check = OverlapCheck(reserved_folders)
    checked: list[CheckedPath] = []
    for text in paths:
        path = text.rstrip("/") or "/"
        fault = _syntax_error_reason(path) or overlap_check.rejection_reason(path) or unreadable_reason(path)
        checked.append(CheckedPath(path, fault))
        if fault is None:
            overlap_check.add(ReservedFolder("another import path", path))
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
