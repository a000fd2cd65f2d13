"""Checks that an object holds the bytes that the catalogue records: by the store's own checksum, or by reading the object back.

An equal size alone never suffices.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from app.catalog.schema.records import File
from app.migration.problems import (
    COPY_DAMAGED,
    COPY_MISSING,
    STORE_WITHOUT_CHECKSUM,
    MoveProblem,
    describe_target_error,
)
from app.storage.crc32 import crc32
from app.storage.errors import ObjectNotFound, StorageError
from app.storage.key import Key
from app.storage.service import StorageLocation


class VerifyMethod(StrEnum):
    """`auto`: the store's checksum of the whole object where there is one, otherwise all bytes are read back."""

    AUTO = "auto"
    CHECKSUM = "checksum"
    READBACK = "readback"


@dataclass(frozen=True, slots=True)
class RecordedChecksums:
    """Size in bytes and checksums of a file in the catalogue; at least one checksum is set."""

    size: int
    sha1: bytes | None
    crc32: int | None


def get_recorded_checksums(file: File) -> RecordedChecksums | None:
    """None where the catalogue has no size or no checksum."""
    if file.size is None or (file.sha1 is None and file.crc32 is None):
        return None
    return RecordedChecksums(file.size, file.sha1, file.crc32)


class ContentHasher:
    """Computes size and checksums of the bytes passed to `update`."""

    def __init__(self) -> None:
        self.size = 0
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._crc32 = 0

    def update(self, data: bytes) -> None:
        self.size += len(data)
        self._sha1.update(data)
        self._crc32 = crc32(data, self._crc32)

    def matches(self, recorded: RecordedChecksums) -> bool:
        """True where the size and all recorded checksums are equal."""
        return (
            self.size == recorded.size
            and recorded.sha1 in (None, self._sha1.digest())
            and recorded.crc32 in (None, self._crc32)
        )

    def to_checksums(self) -> RecordedChecksums:
        return RecordedChecksums(self.size, self._sha1.digest(), self._crc32)


async def find_copy_problem(
    location: StorageLocation, key: Key, recorded: RecordedChecksums, method: VerifyMethod
) -> MoveProblem | None:
    """The problem of the object at `key`; None where it holds the recorded bytes."""
    try:
        if method is not VerifyMethod.READBACK and recorded.crc32 is not None:
            stored = await location.backend.stored_checksum(key)
            if stored is not None:
                return None if (stored.size, stored.crc32) == (recorded.size, recorded.crc32) else COPY_DAMAGED
        if method is VerifyMethod.CHECKSUM:
            return STORE_WITHOUT_CHECKSUM
        return None if (await read_back(location, key)).matches(recorded) else COPY_DAMAGED
    except ObjectNotFound:
        return COPY_MISSING
    except StorageError as error:
        return describe_target_error(error)


async def read_back(location: StorageLocation, key: Key) -> ContentHasher:
    """Read and hash the whole object. Raises `StorageError`."""
    digest = ContentHasher()
    async with location.backend.read_stream(key) as stream:
        async for chunk in stream.chunks:
            digest.update(chunk)
    return digest
