"""SHA-1 by OpenSSL, whose state can be saved: without a copy of the bytes, and while other threads run.

hashlib has the same speed, but hides the state. Function and structure are public (`openssl/sha.h`), though deprecated since OpenSSL 3.0, and
may be missing: `content_hash` tries them first.
"""

from __future__ import annotations

import ctypes
import struct
from functools import cache
from typing import Any, Self

_CONTEXT = struct.Struct("=5I2I64sI")
"""`SHA_CTX`: state, number of bits (low, high), begun block, bytes in it."""
_SAVED = struct.Struct("<5IQB63s")
"""As the package rehashes has it: state, whole blocks, bytes in the begun block, that block."""
_CONTEXT_ROOM_BYTES = 256
_BLOCK_BYTES = 64
_INITIAL_STATE = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)


class OpenSslSha1:
    """As `rehashes.PySha1`, with the same serialized form. `update` raises `ImportError`, `OSError` or `AttributeError` where OpenSSL is
    missing, `RuntimeError` where it refuses."""

    __slots__ = ("_context",)

    def __init__(self) -> None:
        self._context = _make_context(*_INITIAL_STATE, 0, 0, b"", 0)

    @classmethod
    def deserialize(cls, saved: bytes) -> Self:
        """Raises `ValueError` for what is no state."""
        if len(saved) != _SAVED.size:
            raise ValueError("no state of SHA-1")
        *state, blocks, count, block = _SAVED.unpack(saved)
        if count >= _BLOCK_BYTES:
            raise ValueError("no state of SHA-1")
        bits = 8 * (blocks * _BLOCK_BYTES + count)
        sha1 = cls()
        sha1._context = _make_context(*state, bits & 0xFFFFFFFF, bits >> 32, block[:count], count)
        return sha1

    def update(self, data: bytes | memoryview) -> None:
        """Without a copy, but for a view that is read-only."""
        if isinstance(data, memoryview) and data.readonly:
            data = bytes(data)
        if not data:
            return
        size = len(data)
        source = data if isinstance(data, bytes) else (ctypes.c_char * size).from_buffer(data)
        if not _find_update()(self._context, source, size):
            raise RuntimeError("OpenSSL has not hashed")

    def serialize(self) -> bytes:
        *state, low, high, block, count = _CONTEXT.unpack_from(self._context)
        blocks = (high << 32 | low) // (8 * _BLOCK_BYTES)
        return _SAVED.pack(*state, blocks, count, block[:count])


def _make_context(*values: int | bytes) -> ctypes.Array[ctypes.c_char]:
    context = ctypes.create_string_buffer(_CONTEXT_ROOM_BYTES)
    _CONTEXT.pack_into(context, 0, *values)
    return context


@cache
def _find_update() -> Any:
    import _hashlib  # noqa: PLC0415 - it is missing where Python was built without OpenSSL

    update = ctypes.CDLL(_hashlib.__file__).SHA1_Update
    update.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    update.restype = ctypes.c_int
    return update
