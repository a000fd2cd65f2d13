"""The manifest of an archive: its entries, frozen when the archive is planned, and their serialized form for the catalogue. No I/O.

The same manifest gives the same bytes, wherever its files are stored later.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from app.archives.errors import ManifestUnreadable
from app.archives.zip_layout import LAYOUT_VERSION, ZipEntry

MAX_MANIFEST_BYTES = 256 * 1024 * 1024
"""Bounds the decompressed text: about 800,000 entries."""
ENTRIES_PER_LINE = 1000
"""Entries per line of JSON. The interpreter holds its lock while it parses or writes one line, so other threads wait that long."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """A member of the archive: the file of kind `kind` of an asset, under a unique `name`. `size` in bytes; `checksum`: SHA-1.

    `crc32` and `checksum` are None for an external file whose content has not been read yet.
    """

    asset_id: UUID
    kind: str
    name: str
    size: int
    crc32: int | None
    modified: datetime
    checksum: bytes | None

    def to_zip_entry(self) -> ZipEntry:
        return ZipEntry(self.name, self.size, self.crc32, self.modified)


@dataclass(frozen=True)
class Manifest:
    """The entries of an archive in their order, and the version of the zip layout."""

    entries: tuple[ManifestEntry, ...]
    layout_version: int = LAYOUT_VERSION

    @cached_property
    def etag(self) -> str:
        """The strong entity tag of the archive, with its quotes: a hash of all that its bytes depend on."""
        return f'"{hashlib.sha256(self._serialize()).hexdigest()[:40]}"'

    @property
    def is_resumable(self) -> bool:
        """Whether ranges can be sent: every CRC-32 is known."""
        return all(entry.crc32 is not None for entry in self.entries)

    def pack(self) -> bytes:
        """The compressed form for the catalogue. Takes about a second for 100,000 entries."""
        return zlib.compress(self._serialize(), 6)

    @classmethod
    def unpack(cls, packed: bytes) -> Manifest:
        """Raises `ManifestUnreadable`."""
        try:
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(packed, MAX_MANIFEST_BYTES)
            head, *lines = text.split(b"\n")
            if not unpacker.eof or json.loads(head)["layout"] != LAYOUT_VERSION:
                raise ManifestUnreadable("of another layout, or cut short")
            return cls(tuple(_row_to_entry(row) for line in lines for row in json.loads(line)))
        except (zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ManifestUnreadable(str(error)) from error

    def _serialize(self) -> bytes:
        starts = range(0, len(self.entries), ENTRIES_PER_LINE)
        lines = [
            _encode_line([_entry_to_row(entry) for entry in self.entries[start : start + ENTRIES_PER_LINE]])
            for start in starts
        ]
        return b"\n".join([_encode_line({"layout": self.layout_version}), *lines])


def _encode_line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _entry_to_row(entry: ManifestEntry) -> list[Any]:
    checksum = None if entry.checksum is None else entry.checksum.hex()
    modified = entry.modified.isoformat()
    return [entry.asset_id.hex, entry.kind, entry.name, entry.size, entry.crc32, modified, checksum]


def _row_to_entry(row: Sequence[Any]) -> ManifestEntry:
    asset_id, kind, name, size, crc32, modified, checksum = row
    return ManifestEntry(
        UUID(hex=asset_id),
        kind,
        name,
        size,
        crc32,
        datetime.fromisoformat(modified),
        None if checksum is None else bytes.fromhex(checksum),
    )
