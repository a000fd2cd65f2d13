"""The format of a block file: a header that tells which bytes of which version of which object follow, then these bytes. Pure: no I/O.

The CRC-32 of the bytes is in the header, and the header ends with its own CRC-32. A file that is torn, truncated, flipped or foreign
differs from at least one of them, from the file's length, or from the object that is asked for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from app.storage.backend import ObjectInfo
from app.storage.crc32 import crc32
from app.storage.ranges import ByteRange

BLOCK_BYTES = 4 * 1024 * 1024
"""Blocks begin at multiples of this size; an object that is smaller is one block."""
MAX_HEADER_BYTES = 4096

_MAGIC = b"mvblock1"
_FIXED = struct.Struct("<8sHHHQQIIq")
_CRC = struct.Struct("<I")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class BlockId:
    """A block of the object `key` of the store `location` (an endpoint with bucket and prefix)."""

    location: str
    key: str
    index: int

    @property
    def object_name(self) -> str:
        """The name that all blocks of the object have in common."""
        return make_object_name(self.location, self.key)

    @property
    def first(self) -> int:
        """The offset of the block's first byte in the object."""
        return self.index * BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """`info` is the whole object's; `length` and `data_crc32` are those of the block's bytes. `size` is that of the header."""

    info: ObjectInfo
    length: int
    data_crc32: int
    size: int


def make_object_name(location: str, key: str) -> str:
    """A name of 40 hexadecimal digits: keys are longer than file names may be, and hold slashes."""
    return blake2b(f"{location}\0{key}".encode(), digest_size=20).hexdigest()


def block_range(index: int, size: int) -> ByteRange:
    """The bytes of an object of `size` bytes that its block `index` has. Raises ValueError where it has none."""
    return ByteRange(index * BLOCK_BYTES, min((index + 1) * BLOCK_BYTES, size) - 1)


def encode_header(block: BlockId, info: ObjectInfo, length: int, data_crc32: int) -> bytes | None:
    """None for an object whose version has so long an ETag that the header would be too large."""
    texts = [text.encode() for text in (block.location, block.key, info.etag)]
    modified = (info.last_modified - _EPOCH) // _MICROSECOND
    fields = (*map(len, texts), info.size, block.first, length, data_crc32, modified)
    if sum(map(len, texts)) + _FIXED.size + _CRC.size > MAX_HEADER_BYTES:
        return None
    content = b"".join((_FIXED.pack(_MAGIC, *fields), *texts))
    return content + _CRC.pack(crc32(content))


def decode_header(data: bytes, block: BlockId) -> BlockHeader | None:
    """The header that `data` begins with; None where it is none, or that of another block than `block`."""
    if len(data) < _FIXED.size:
        return None
    magic, *lengths, size, first, length, data_crc32, modified = _FIXED.unpack_from(data)
    content_size = _FIXED.size + sum(lengths)
    if magic != _MAGIC or len(data) < content_size + _CRC.size:
        return None
    if _CRC.unpack_from(data, content_size)[0] != crc32(memoryview(data)[:content_size]):
        return None
    texts: list[str] = []
    position = _FIXED.size
    for count in lengths:
        texts.append(data[position : position + count].decode())
        position += count
    location, key, etag = texts
    if (location, key, first) != (block.location, block.key, block.first) or first >= size:
        return None
    if length != block_range(block.index, size).length:
        return None
    info = ObjectInfo(key, size, _EPOCH + modified * _MICROSECOND, etag)
    return BlockHeader(info, length, data_crc32, content_size + _CRC.size)
