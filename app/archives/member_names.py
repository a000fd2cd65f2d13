"""Makes names for the members of an archive: unique, and safe to unpack on every operating system. No I/O.

The input is untrusted: names come from the users who uploaded the files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from app.unicode_folding import fold_case

MAX_NAME_BYTES = 255
"""In UTF-8: the limit of common file systems for one path segment."""
MAX_EXTENSION_BYTES = 32
FALLBACK_NAME = "file"

_DRIVE = re.compile(r"^[A-Za-z]:(?=[\\/]|$)")
_SEPARATORS = re.compile(r"[/\\\u2044\u2215\uff0f\uff3c]")
# Characters that Windows does not allow in a file name.
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³]|CONIN\$|CONOUT\$) *(\.|$)", re.IGNORECASE)
# Bidirectional control characters: they make "gpj.exe" display as "exe.jpg".
_DIRECTION = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")


def assign_member_names(names: Iterable[str]) -> Iterator[str]:
    """A clean name for each of `names`, in their order, unique among all of them.

    Names are compared after NFC and case folding, as on the file systems of macOS and Windows. The second `IMG.jpg` becomes
    `IMG+1.jpg`, or gets the next free number.
    """
    taken: set[str] = set()
    counters: dict[str, int] = {}
    for name in names:
        unique = clean = clean_member_name(name)
        folded = fold_case(clean)
        while fold_case(unique) in taken:
            counters[folded] = counters.get(folded, 0) + 1
            unique = _add_number(clean, counters[folded])
        taken.add(fold_case(unique))
        yield unique


def clean_member_name(name: str) -> str:
    """`name` as one relative path segment of at most `MAX_NAME_BYTES`, without separators, drive letters, control characters and Windows
    device names."""
    text = name.encode("utf-8", "replace").decode("utf-8")
    text = _DIRECTION.sub("", _DRIVE.sub("", text))
    text = "".join("_" if unicodedata.category(character) == "Cc" else character for character in text)
    text = _FORBIDDEN.sub("_", _SEPARATORS.sub("_", text))
    # Windows removes trailing dots and spaces: "a.jpg." becomes "a.jpg", and "..." becomes empty.
    text = text.strip(" ").rstrip(". ")
    if not text:
        return FALLBACK_NAME
    if _DEVICES.match(text):
        text = f"_{text}"
    return append_to_stem(text, "")


def _add_number(name: str, number: int) -> str:
    return append_to_stem(name, f"+{number}")


def append_to_stem(name: str, suffix: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """The stem of a clean name, truncated so that all fits into `max_bytes`, then `suffix`, then the extension."""
    stem, extension = _split_extension(name)
    stem_bytes = max_bytes - len(suffix.encode()) - len(extension.encode())
    stem = stem.encode()[:stem_bytes].decode("utf-8", "ignore")
    return f"{stem}{suffix}{extension}" if extension else f"{stem}{suffix}".rstrip(". ")


def _split_extension(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    if not stem or not extension or len(extension.encode()) + 1 > MAX_EXTENSION_BYTES:
        return name, ""
    return stem, dot + extension
