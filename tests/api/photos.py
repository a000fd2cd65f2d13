"""Makes small photos and videos, each with different bytes."""

from __future__ import annotations

import secrets

_QUANTIZATION = b"\xff\xdb\x00\x43\x00" + b"\x01" * 64
_FRAME = b"\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00"
_ONE_CODE = b"\x01" + b"\x00" * 15 + b"\x00"
_TABLES = b"\xff\xc4\x00\x14\x00" + _ONE_CODE + b"\xff\xc4\x00\x14\x10" + _ONE_CODE
_SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x3f"


def photo(text: str | None = None) -> bytes:
    """A grey JPEG of 8 by 8 pixels with a comment that makes it unique."""
    comment = (text or secrets.token_hex(16)).encode()
    noted = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    return b"\xff\xd8" + noted + _QUANTIZATION + _FRAME + _TABLES + _SCAN + b"\xff\xd9"


def clip(text: str | None = None) -> bytes:
    """The first box of an MP4, and bytes that make it unique: enough to be taken for a video, but no decoder can read it."""
    return b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + (text or secrets.token_hex(16)).encode()
