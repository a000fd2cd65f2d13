"""CRC-32 as used by zip and S3, computed by ISA-L, which uses the processor's folding instructions and takes a tenth of zlib's time."""

from __future__ import annotations

from isal import isal_zlib


def crc32(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """The CRC-32 of the bytes with CRC-32 `value`, followed by `data`; same result as `zlib.crc32`."""
    return isal_zlib.crc32(data, value)  # pyright: ignore[reportUnknownMemberType]
