"""Builds `Content-Disposition` (RFC 6266, RFC 8187): a safe file name for browsers from any text. No I/O."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

MAX_NAME_BYTES = 240
"""In UTF-8. Most file systems allow 255; the rest is left for a browser's ` (1)`."""
MAX_EXTENSION_BYTES = 20
FALLBACK_NAME = "download"

_ATTR_CHAR_MARKS = "!#$&+-.^_`|~"
_SEPARATORS = re.compile(r"[/\\]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# Characters replaced in the ASCII fallback for old clients: quotes and backslashes need escaping, and some clients decode percent signs.
_NOT_IN_FALLBACK = re.compile(r'[^\x20-\x7e]|["\\%]')
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cn", "Zl", "Zp"})
_KEPT_FORMAT_CHARACTERS = frozenset("\u200c\u200d")
"""Zero-width joiners, which emoji and some scripts need. Other format characters (right-to-left marks, soft hyphens) can disguise names."""


def content_disposition(filename: str, *, attachment: bool) -> bytes:
    """The field's value: ASCII without control characters, of bounded length; with `filename*` only if the name is not plain ASCII."""
    name = sanitize_file_name(filename)
    fallback = _NOT_IN_FALLBACK.sub("_", unicodedata.normalize("NFC", name))
    value = f'{"attachment" if attachment else "inline"}; filename="{fallback}"'
    if fallback != name:
        value += f"; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR_MARKS)}"
    return value.encode("ascii")


def sanitize_file_name(filename: str) -> str:
    """`filename` without separators, invisible and control characters, and at most `MAX_NAME_BYTES` long with its extension kept."""
    text = _SEPARATORS.sub("_", _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", filename))
    text = "".join(character for character in text if _is_visible(character)).strip()
    if not text.strip("."):
        return FALLBACK_NAME
    return _shorten(text)


def _is_visible(character: str) -> bool:
    return character in _KEPT_FORMAT_CHARACTERS or unicodedata.category(character) not in _INVISIBLE


def _shorten(name: str) -> str:
    if len(name.encode("utf-8")) <= MAX_NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = dot + extension
    if not stem or len(suffix.encode("utf-8")) > MAX_EXTENSION_BYTES:
        stem, suffix = name, ""
    kept = stem.encode("utf-8")[: MAX_NAME_BYTES - len(suffix.encode("utf-8"))].decode("utf-8", "ignore")
    return kept.rstrip() + suffix
