"""Structured field values (RFC 9651), as far as resumable uploads need them: booleans, integers, dictionaries of byte sequences. No I/O.

Parameters are checked and ignored, as section 2 of the draft asks.
"""

from __future__ import annotations

import re

_KEY = r"[a-z*][a-z0-9_.*-]*"
_BARE_ITEM = (
    r'(?:\?[01]|-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[ !#-\[\]-~]|\\["\\])*"|:[A-Za-z0-9+/=]*:|@-?[0-9]{1,15}|'
    r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*)"
)
_PARAMETERS = rf"(?:; *{_KEY}(?:={_BARE_ITEM})?)*"
_BOOLEAN = re.compile(rf"\?([01]){_PARAMETERS}")
_INTEGER = re.compile(rf"(-?[0-9]{{1,15}}){_PARAMETERS}")
_MEMBER = re.compile(rf"({_KEY})(?:=({_BARE_ITEM}))?{_PARAMETERS}[ \t]*(,[ \t]*|\Z)")

MAX_MEMBERS = 32


def parse_boolean(text: str) -> bool | None:
    """None if `text` is no boolean item."""
    match = _BOOLEAN.fullmatch(text)
    return None if match is None else match[1] == "1"


def parse_integer(text: str) -> int | None:
    """None if `text` is no integer item, of at most 15 digits."""
    match = _INTEGER.fullmatch(text)
    return None if match is None else int(match[1])


def parse_byte_sequences(text: str) -> dict[str, str] | None:
    """The members of a dictionary whose values are byte sequences, still in base64; None if `text` is no dictionary. The last of
    repeated keys counts (section 4.2.2)."""
    members: dict[str, str] = {}
    position = 0
    for _ in range(MAX_MEMBERS):
        match = _MEMBER.match(text, position)
        if match is None:
            return None
        value = match[2] or ""
        if value.startswith(":"):
            members[match[1]] = value[1:-1]
        position = match.end()
        if position == len(text):
            return members if not match[3] else None
    return None


def format_boolean(value: bool) -> str:
    return "?1" if value else "?0"
