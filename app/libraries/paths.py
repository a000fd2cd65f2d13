"""Which folders may be import paths: absolute, readable, and apart from what is ours and from one another. Each fault is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.libraries.apart import Place, Surroundings
from app.libraries.sight import usable

MAX_PATHS = 128
MAX_PATH_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class CheckedPath:
    """`path` as it is kept; `fault` says why it may not be an import path, None where it may."""

    path: str
    fault: str | None


def check_paths(wanted: Sequence[str], taken: Iterable[Place]) -> list[CheckedPath]:
    """In the order given. For a thread: asks the disk."""
    surroundings = Surroundings(taken)
    checked: list[CheckedPath] = []
    for text in wanted:
        path = text.rstrip("/") or "/"
        fault = _wrong_text(path) or surroundings.fault(path) or usable(path)
        checked.append(CheckedPath(path, fault))
        if fault is None:
            surroundings.add(Place("another import path", path))
    return checked


def _wrong_text(path: str) -> str | None:
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
