"""`ContentHash`: SHA-1 and CRC-32 of an upload's bytes so far, whose state can be saved and continued by another process."""

from __future__ import annotations

from dataclasses import dataclass

from app.storage.crc32 import crc32

try:
    from rehashes import PySha1 as _Sha1  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:  # it has no wheels for macOS
    from cykooz_rehash import Sha1 as _Sha1  # pyright: ignore[reportMissingImports]

_PIECE_BYTES = 256 * 1024
"""Both packages hold the interpreter's lock while they hash, and take only `bytes`: other threads run between the pieces."""


@dataclass(frozen=True, slots=True)
class HashState:
    """The state after some bytes; `sha1` None: after none."""

    sha1: bytes | None = None
    crc32: int = 0


class ContentHash:
    def __init__(self, state: HashState) -> None:
        self._sha1 = _load(state)
        self._crc32 = state.crc32

    def update(self, data: memoryview) -> None:
        for start in range(0, len(data), _PIECE_BYTES):
            self._sha1.update(bytes(data[start : start + _PIECE_BYTES]))
        self._crc32 = crc32(data, self._crc32)

    def save(self) -> HashState:
        return HashState(self._sha1.serialize(), self._crc32)


def finish_sha1(state: HashState) -> bytes:
    """The SHA-1 of the bytes, 20 bytes."""
    sha1 = _load(state)
    return bytes.fromhex(sha1.finalize() if hasattr(sha1, "finalize") else sha1.hexdigest())


def _load(state: HashState) -> _Sha1:
    return _Sha1() if state.sha1 is None else _Sha1.deserialize(state.sha1)
