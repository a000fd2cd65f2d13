"""`ContentHash`: SHA-1 and CRC-32 of an upload's bytes so far, whose state can be saved and continued by another process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from app.storage.crc32 import crc32
from app.uploads.sessions.openssl_sha1 import OpenSslSha1

try:
    from rehashes import PySha1 as _Sha1  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:  # it has no wheels for macOS
    from cykooz_rehash import Sha1 as _Sha1  # pyright: ignore[reportMissingImports]

_PIECE_BYTES = 256 * 1024
"""Both packages hold the interpreter's lock while they hash, and take only `bytes`: other threads run between the pieces."""
_SAMPLE = bytes(range(200))


@dataclass(frozen=True, slots=True)
class HashState:
    """The state after some bytes; `sha1` None: after none."""

    sha1: bytes | None = None
    crc32: int = 0


class ContentHash:
    def __init__(self, state: HashState) -> None:
        self._sha1 = _load(state, OpenSslSha1 if has_openssl() else _Sha1)
        self._crc32 = state.crc32

    def update(self, data: memoryview) -> None:
        if isinstance(self._sha1, OpenSslSha1):
            self._sha1.update(data)
        else:
            for start in range(0, len(data), _PIECE_BYTES):
                self._sha1.update(bytes(data[start : start + _PIECE_BYTES]))
        self._crc32 = crc32(data, self._crc32)

    def save(self) -> HashState:
        return HashState(self._sha1.serialize(), self._crc32)


def finish_sha1(state: HashState) -> bytes:
    """The SHA-1 of the bytes, 20 bytes."""
    sha1 = _load(state, _Sha1)
    return bytes.fromhex(sha1.finalize() if hasattr(sha1, "finalize") else sha1.hexdigest())


@cache
def has_openssl() -> bool:
    """Whether OpenSSL hashes here, and its states are those of the package: other processes, of other versions, go on with them."""
    try:
        ours, theirs = OpenSslSha1(), _Sha1()
        for piece in (_SAMPLE, _SAMPLE[:56]):  # an unfinished block, then a whole number of blocks
            ours = OpenSslSha1.deserialize(ours.serialize())
            ours.update(piece)
            theirs.update(piece)
            if ours.serialize() != theirs.serialize():
                return False
    except (ImportError, OSError, AttributeError, ValueError, RuntimeError):  # the last where a policy forbids SHA-1
        return False
    return True


def _load(state: HashState, kind: Any) -> Any:
    return kind() if state.sha1 is None else kind.deserialize(state.sha1)
