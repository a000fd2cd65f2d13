"""What a client calls a file, made fit to be shown and stored as text. Never part of a path. No I/O."""

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
    """The last segment of `name`, one line of at most 255 characters, its extension kept.

    Everything else stays as it was written, direction marks and unusual spaces among it: it is the user's name for it.
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
    """With its dot, in lower case, of the name's last segment; empty where there is none (`.jpg` alone has none)."""
    stem, dot, ending = _SEPARATORS.split(name)[-1].rpartition(".")
    return dot + ending.lower() if stem and ending else ""
