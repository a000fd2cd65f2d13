"""Which folders may be import paths: absolute, readable, and apart from what is ours and from one another. Each fault is named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.libraries.sight import usable

MAX_PATHS = 128
MAX_PATH_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that no import path may hold, lie in, or be. `name` is what the refusal calls it. `away`: its disk is, and may not even answer, so
    that where it leads to is not asked."""

    name: str
    path: str
    away: bool = False


@dataclass(frozen=True, slots=True)
class CheckedPath:
    """`path` as it is kept; `fault` says why it may not be an import path, None where it may."""

    path: str
    fault: str | None


def check_paths(wanted: Sequence[str], taken: Iterable[Place]) -> list[CheckedPath]:
    """In the order given. For a thread: asks the disk."""
    places = [place if place.away else Place(place.name, os.path.realpath(place.path)) for place in taken]
    checked: list[CheckedPath] = []
    for text in wanted:
        path = text.rstrip("/") or "/"
        fault = _wrong_text(path) or _wrong_place(path, places) or usable(path)
        checked.append(CheckedPath(path, fault))
        if fault is None:
            places.append(Place("another import path", os.path.realpath(path)))
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


def _wrong_place(path: str, places: Iterable[Place]) -> str | None:
    real = os.path.realpath(path)
    for place in places:
        if real == place.path:
            return f"{path} is {place.name}"
        if real.startswith(place.path + "/"):
            return f"{path} lies in {place.name}"
        if place.path.startswith(real + "/"):
            return f"{path} holds {place.name}"
    return None
