"""Reads tags of maker notes that exiv2 does not decode: Apple's content identifier, which a live photo and its video share. Pure."""

from __future__ import annotations

import struct

_APPLE = b"Apple iOS\0\0\1"
_CONTENT_IDENTIFIER = 0x0011
_ASCII = 2
_MAX_ENTRIES = 512
_MAX_IDENTIFIER_BYTES = 256
_BYTE_ORDERS = {b"MM": ">", b"II": "<"}


def read_content_identifier(maker_note: bytes) -> str | None:
    """The content identifier of an Apple maker note: an IFD at byte 14, whose offsets count from the note's beginning. None if there is none."""
    order = _BYTE_ORDERS.get(maker_note[12:14])
    if not maker_note.startswith(_APPLE) or order is None or len(maker_note) < 16:
        return None
    (count,) = struct.unpack_from(f"{order}H", maker_note, 14)
    for index in range(min(count, _MAX_ENTRIES)):
        at = 16 + 12 * index
        if at + 12 > len(maker_note):
            return None
        tag, kind, length, offset = struct.unpack_from(f"{order}HHII", maker_note, at)
        if tag != _CONTENT_IDENTIFIER or kind != _ASCII or length > _MAX_IDENTIFIER_BYTES:
            continue
        start = at + 8 if length <= 4 else offset
        text = maker_note[start : start + length].partition(b"\0")[0].decode("ascii", "ignore").strip()
        return text or None
    return None
