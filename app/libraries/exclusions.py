"""Which paths a library leaves out, by glob patterns as Immich has them. Pure: names only, no I/O.

`*` and `?` stay within a segment, `**` crosses them, `[…]` and `{a,b}` choose; case does not matter. Patterns apply to absolute paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

DEFAULT_EXCLUSIONS = (
    "**/@eaDir/**",
    "**/._*",
    "**/#recycle/**",
    "**/#snapshot/**",
    "**/.stversions/**",
    "**/.stfolder/**",
)
"""Immich's: what NAS systems, macOS and Syncthing put beside the files."""

MAX_PATTERN_CHARACTERS = 500

_ANYWHERE, _BELOW = "**/", "/**"


class InvalidPattern(ValueError):
    """The text is no glob pattern; says why."""


class Exclusions:
    """Patterns, sorted by what it takes to apply them: most need only the last segment of a path."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises `InvalidPattern`."""
        folders: list[str] = []
        names: list[str] = []
        paths: list[str] = []
        for pattern in patterns:
            check_pattern(pattern)
            segment = pattern.removeprefix(_ANYWHERE).removesuffix(_BELOW)
            plain = pattern.startswith(_ANYWHERE) and "/" not in segment and "**" not in segment
            if plain and pattern.endswith(_BELOW):
                folders.append(segment)
            elif plain:
                names.append(segment)
            else:
                paths.append(pattern)
        self._folder = _either(folders)
        self._name = _either(names)
        self._path = _either(paths)

    def leaves_out_folder(self, folder: str, name: str) -> bool:
        """True where nothing below the folder `name` of `folder` belongs to the library."""
        if (self._folder and self._folder(name)) or (self._name and self._name(name)):
            return True
        # A pattern that ends with `/**` fits whatever the name below is.
        return bool(self._path and self._path(f"{folder}/{name}/\0"))

    def leaves_out_file(self, folder: str, name: str) -> bool:
        if self._name is not None and self._name(name):
            return True
        return bool(self._path and self._path(f"{folder}/{name}"))


def check_pattern(pattern: str) -> None:
    """Raises `InvalidPattern`."""
    if not pattern:
        raise InvalidPattern("is empty")
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise InvalidPattern(f"is longer than {MAX_PATTERN_CHARACTERS} characters")
    if pattern.count("*") > 20 or pattern.count("{") > 5:
        raise InvalidPattern("has too many wildcards")
    if "\0" in pattern or "\n" in pattern:
        raise InvalidPattern("holds a control character")
    try:
        re.compile(translate(pattern))
    except (re.error, RecursionError):
        raise InvalidPattern("is no glob pattern") from None


def translate(pattern: str) -> str:
    """The regular expression of a glob, for `fullmatch`."""
    parts: list[str] = []
    place = 0
    braces = 0
    while place < len(pattern):
        if pattern.startswith("**/", place) and pattern[place - 1 : place] in ("", "/"):
            parts.append("(?:.*/)?")
            place += 3
        elif pattern.startswith("**", place):
            parts.append(".*")
            place += 2
        elif pattern[place] == "[" and "]" in pattern[place + 2 :]:
            end = pattern.index("]", place + 2)
            inner = pattern[place + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"(?!/)[{'^' + inner[1:] if inner[0] in '!^' else inner}]")
            place = end + 1
        else:
            character = pattern[place]
            braces += (character == "{") - (character == "}" and braces > 0)
            parts.append(_single(character, in_braces=braces > 0, closing=character == "}"))
            place += 1
    if braces:
        raise InvalidPattern("has an open brace")
    return "".join(parts)


def _single(character: str, *, in_braces: bool, closing: bool) -> str:
    if closing:
        return ")"
    special = {"*": "[^/]*", "?": "[^/]", "{": "(?:"}
    if character == "," and in_braces:
        return "|"
    return special.get(character) or re.escape(character)


def _either(patterns: list[str]) -> partial[re.Match[str] | None] | None:
    if not patterns:
        return None
    joined = "|".join(f"(?:{translate(pattern)})" for pattern in patterns)
    return partial(re.compile(joined, re.DOTALL | re.IGNORECASE).fullmatch)
