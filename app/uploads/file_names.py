"""Cleans file names sent by clients for display and for storage as text. They never become part of a path. No I/O."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME_CHARACTERS = 255
MAX_EXTENSION_CHARACTERS = 16
FALLBACK_NAME = "unnamed"

_SEPARATORS = re.compile(r"[/\\]")
_UNSTORABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Control characters (PostgreSQL refuses NUL), lone surrogates (no UTF-8), line and paragraph separators."""


def build_display_name(name: str) -> str:
    """The last segment of `name`, as one line of at most 255 characters that keeps its extension.

    All other characters stay, including direction marks and unusual spaces: the user chose the name.
    """
    text = replace_unstorable(_SEPARATORS.split(name)[-1]).strip()
    if text in ("", ".", ".."):
        return FALLBACK_NAME
    if len(text) <= MAX_NAME_CHARACTERS:
        return text
    ending = extract_extension(text)
    if len(ending) > MAX_EXTENSION_CHARACTERS:
        ending = ""
    return text[: MAX_NAME_CHARACTERS - len(ending)] + ending


def replace_unstorable(text: str) -> str:
    """`text` with `_` for each character that the catalogue cannot hold or that would break a line."""
    return "".join("_" if unicodedata.category(character) in _UNSTORABLE else character for character in text)


def extract_extension(name: str) -> str:
    """The extension of the name's last segment, with its dot, in lower case; empty where there is none (`.jpg` alone has none)."""
    stem, dot, ending = _SEPARATORS.split(name)[-1].rpartition(".")
    return dot + ending.lower() if stem and ending else ""
