"""Names inside an archive: safe to unpack anywhere, and no two alike. Pure; no I/O.

A name comes from whoever uploaded the file and goes to whoever unpacks the archive, on any system.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from app.unicode_folding import fold_case

MAX_NAME_BYTES = 255
"""Per segment, in UTF-8: the limit of the common file systems."""
MAX_EXTENSION_BYTES = 32
FALLBACK_NAME = "file"

_DRIVE = re.compile(r"^[A-Za-z]:(?=[\\/]|$)")
_SEPARATORS = re.compile(r"[/\\\u2044\u2215\uff0f\uff3c]")
# What Windows does not take in a file name.
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³]|CONIN\$|CONOUT\$) *(\.|$)", re.IGNORECASE)
# Marks that only change the direction of writing: they make "gpj.exe" read "exe.jpg".
_DIRECTION = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")


def assign_member_names(names: Iterable[str]) -> Iterator[str]:
    """A name for each of `names`, in their order: clean, one segment, and unlike all before it.

    Two names are alike when they are equal after case folding and NFC, as on the file systems of macOS and Windows. The
    second `IMG.jpg` becomes `IMG+1.jpg`, unless that is taken, too.
    """
    taken: set[str] = set()
    counters: dict[str, int] = {}
    for name in names:
        chosen = clean = clean_member_name(name)
        fold = fold_case(clean)
        while fold_case(chosen) in taken:
            counters[fold] = counters.get(fold, 0) + 1
            chosen = _add_number(clean, counters[fold])
        taken.add(fold_case(chosen))
        yield chosen


def clean_member_name(name: str) -> str:
    """One relative segment of at most 255 bytes without separators, drive letters, control characters or device names."""
    text = name.encode("utf-8", "replace").decode("utf-8")
    text = _DIRECTION.sub("", _DRIVE.sub("", text))
    text = "".join("_" if unicodedata.category(character) == "Cc" else character for character in text)
    text = _FORBIDDEN.sub("_", _SEPARATORS.sub("_", text))
    # Windows drops these at the end, and then "a.jpg." is "a.jpg", and "..." is nothing.
    text = text.strip(" ").rstrip(". ")
    if not text:
        return FALLBACK_NAME
    if _DEVICES.match(text):
        text = f"_{text}"
    return _shorten(text, "")


def _add_number(name: str, number: int) -> str:
    return _shorten(name, f"+{number}")


def _shorten(name: str, suffix: str) -> str:
    """The stem, cut to fit, the suffix, the extension."""
    stem, extension = _split_extension(name)
    room = MAX_NAME_BYTES - len(suffix.encode()) - len(extension.encode())
    stem = stem.encode()[:room].decode("utf-8", "ignore")
    return f"{stem}{suffix}{extension}" if extension else f"{stem}{suffix}".rstrip(". ")


def _split_extension(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    if not stem or not extension or len(extension.encode()) + 1 > MAX_EXTENSION_BYTES:
        return name, ""
    return stem, dot + extension
