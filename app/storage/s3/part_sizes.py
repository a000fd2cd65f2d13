"""How an upload to S3 is cut into parts. Pure; no I/O."""

from __future__ import annotations

from app.config import MEBIBYTE

MINIMUM_PART_BYTES = 8 * MEBIBYTE
MAXIMUM_PART_BYTES = 16 * MEBIBYTE
MAXIMUM_PARTS = 10_000
_TARGET_PARTS = 9_000


def choose_part_size(size: int | None) -> int:
    """Bytes per part of an upload of `size` bytes (None: not known), the same for all its parts."""
    if size is None:
        return MINIMUM_PART_BYTES
    return min(max(MINIMUM_PART_BYTES, -(-size // _TARGET_PARTS)), MAXIMUM_PART_BYTES)
