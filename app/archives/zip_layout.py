"""Computes the layout of a zip before a byte is sent: from entries to pieces with absolute offsets. No I/O.

Entries are stored without compression, because media files are compressed already. So the sizes, and with the CRC-32 from the catalogue
all bytes outside the members, follow from the entries alone: the same entries give the same bytes. Source: PKWARE APPNOTE.TXT 6.3.10,
whose sections are cited below.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, cast

from app.storage.ranges import ByteRange

LAYOUT_VERSION = 1
"""Must change whenever the same entries would give other bytes. It is part of the manifest, so that old links fail and never mix bytes."""

_LOCAL: Final = struct.Struct("<4sHHHHHLLLHH")  # 4.3.7
_DESCRIPTOR: Final = struct.Struct("<4sLLL")  # 4.3.9
_DESCRIPTOR64: Final = struct.Struct("<4sLQQ")
_CENTRAL: Final = struct.Struct("<4sBBHHHHHLLLHHHHHLL")  # 4.3.12
_END64: Final = struct.Struct("<4sQBBHLLQQQQ")  # 4.3.14
_LOCATOR64: Final = struct.Struct("<4sLQL")  # 4.3.15
_END: Final = struct.Struct("<4sHHHHLLH")  # 4.3.16
_SIZES64: Final = struct.Struct("<HHQQ")  # 4.5.3
_TIME_EXTRA: Final = struct.Struct("<HHBl")  # Info-ZIP's extended timestamp

_MAX32 = 0xFFFFFFFF
_MAX16 = 0xFFFF
_VERSION = 20
_VERSION64 = 45
_UNIX = 3
_REGULAR_0644 = 0o100644 << 16
_UTF8_NAME = 1 << 11
_DESCRIPTOR_FOLLOWS = 1 << 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DOS_FIRST = datetime(1980, 1, 1, tzinfo=UTC)
_DOS_LAST = datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file in the archive. `name` is clean and unique (see `member_names`); `size` in bytes; `modified` has a time zone.

    `crc32` is None if it is unknown: then a data descriptor follows the bytes, and the archive can be sent only from start to end.
    """

    name: str
    size: int
    crc32: int | None
    modified: datetime


@dataclass(frozen=True, slots=True)
class LiteralBytes:
    """Bytes of the zip format itself (headers, directory), at `offset` of the archive."""

    offset: int
    data: bytes

    @property
    def length(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class MemberBytes:
    """The bytes `span` of the file of entry `index`, at `offset` of the archive."""

    offset: int
    index: int
    span: ByteRange

    @property
    def length(self) -> int:
        return self.span.length


@dataclass(frozen=True, slots=True)
class DescriptorPlaceholder:
    """The position of the data descriptor of entry `index`; its CRC-32 is known after the entry's bytes have been sent."""

    offset: int
    index: int
    length: int


@dataclass(frozen=True, slots=True)
class DirectoryPlaceholder:
    """The position of the central directory and end records in an archive with data descriptors."""

    offset: int
    length: int


ZipPiece = LiteralBytes | MemberBytes | DescriptorPlaceholder | DirectoryPlaceholder


class ZipLayout:
    """Maps every offset of the archive to its source. `size`: bytes of the archive."""

    def __init__(self, entries: Sequence[ZipEntry]) -> None:
        """Takes about a second for 100,000 entries: call it in a thread."""
        self.entries = entries
        self._names = [entry.name.encode() for entry in entries]
        self._times = [_ZipTime.of(entry.modified) for entry in entries]
        self._starts = array("Q")
        offset = 0
        for entry, name, time in zip(entries, self._names, self._times, strict=True):
            self._starts.append(offset)
            zip64_size = _SIZES64.size if entry.size >= _MAX32 else 0
            offset += _LOCAL.size + len(name) + len(time.extra) + zip64_size + entry.size + _descriptor_size(entry)
        self._directory_start = offset
        self.is_resumable = all(entry.crc32 is not None for entry in entries)
        """False if a CRC-32 is unknown: `iter_pieces` then works only for the whole archive. The caller replaces each
        `DescriptorPlaceholder` and the `DirectoryPlaceholder` by the bytes of `build_descriptor` and `build_directory`."""
        # The value of an unknown CRC-32 does not change the length.
        directory = self.build_directory({})
        self.size = offset + len(directory)
        self._directory = directory if self.is_resumable else b""

    def iter_pieces(self, byte_range: ByteRange | None = None) -> Iterator[ZipPiece]:
        """The pieces of `byte_range` (None: of the whole archive), in order and clipped to it. Finds the first piece in O(log n)."""
        first, stop, index = self._find_bounds(byte_range)
        while index < len(self.entries) and self._starts[index] < stop:
            yield from _clip_pieces(self._iter_entry_pieces(index), first, stop)
            index += 1
        if first < stop and stop > self._directory_start:
            yield from _clip_pieces([self._build_directory_piece()], first, stop)

    def iter_members(self, byte_range: ByteRange | None = None) -> Iterator[MemberBytes]:
        """Only the members among `iter_pieces(byte_range)`, without building the headers: for read-ahead."""
        first, stop, index = self._find_bounds(byte_range)
        while index < len(self.entries) and self._starts[index] < stop:
            for piece in _clip_pieces(self._iter_member(index), first, stop):
                yield cast("MemberBytes", piece)
            index += 1

    def _find_bounds(self, byte_range: ByteRange | None) -> tuple[int, int, int]:
        """The first offset, the offset after the last, and the index of the entry that contains the first (or the number of entries, for
        an offset in the central directory)."""
        first = byte_range.first if byte_range else 0
        stop = self.size if byte_range is None or byte_range.last is None else min(byte_range.last + 1, self.size)
        if first >= self._directory_start:
            return first, stop, len(self.entries)
        return first, stop, bisect_right(self._starts, first) - 1

    def build_directory(self, crc32_by_index: Mapping[int, int]) -> bytes:
        """The central directory and the end records. `crc32_by_index`: the CRC-32 of each entry whose own is None."""
        records = [
            self._build_central_header(index, crc32_by_index.get(index, 0)) for index in range(len(self.entries))
        ]
        size = sum(map(len, records))
        return b"".join([*records, _pack_end_records(len(records), size, self._directory_start)])

    def build_descriptor(self, index: int, crc32: int) -> bytes:
        """The data descriptor that follows the bytes of entry `index` (4.3.9)."""
        size = self.entries[index].size
        form = _DESCRIPTOR64 if size >= _MAX32 else _DESCRIPTOR
        return form.pack(b"PK\x07\x08", crc32, size, size)

    def _build_directory_piece(self) -> ZipPiece:
        if self.is_resumable:
            return LiteralBytes(self._directory_start, self._directory)
        return DirectoryPlaceholder(self._directory_start, self.size - self._directory_start)

    def _iter_entry_pieces(self, index: int) -> Iterator[ZipPiece]:
        entry = self.entries[index]
        yield LiteralBytes(self._starts[index], self._build_local_header(index))
        yield from self._iter_member(index)
        if entry.crc32 is None:
            length = _descriptor_size(entry)
            yield DescriptorPlaceholder(self._entry_end(index) - length, index, length)

    def _iter_member(self, index: int) -> Iterator[MemberBytes]:
        entry = self.entries[index]
        if entry.size:
            offset = self._entry_end(index) - _descriptor_size(entry) - entry.size
            yield MemberBytes(offset, index, ByteRange(0, entry.size - 1))

    def _entry_end(self, index: int) -> int:
        return self._starts[index + 1] if index + 1 < len(self._starts) else self._directory_start

    def _build_local_header(self, index: int) -> bytes:
        entry, name, time = self.entries[index], self._names[index], self._times[index]
        large = entry.size >= _MAX32
        size = _MAX32 if large else entry.size
        extra = time.extra
        if large:
            # macOS needs the sizes here even if a data descriptor follows. Safari unpacks only the first member of an archive that has
            # this field without need.
            extra = _SIZES64.pack(1, 16, entry.size, entry.size) + extra
        fixed = _LOCAL.pack(
            b"PK\x03\x04",
            _VERSION64 if large else _VERSION,
            _flags(entry),
            0,
            time.dos_time,
            time.dos_date,
            entry.crc32 or 0,
            size,
            size,
            len(name),
            len(extra),
        )
        return fixed + name + extra

    def _build_central_header(self, index: int, crc32: int) -> bytes:
        entry, name, time, offset = self.entries[index], self._names[index], self._times[index], self._starts[index]
        large, far = entry.size >= _MAX32, offset >= _MAX32
        size = _MAX32 if large else entry.size
        zip64_values = ([entry.size, entry.size] if large else []) + ([offset] if far else [])
        extra = time.extra
        if zip64_values:
            extra = struct.pack(f"<HH{len(zip64_values)}Q", 1, 8 * len(zip64_values), *zip64_values) + extra
        version = _VERSION64 if zip64_values else _VERSION
        fixed = _CENTRAL.pack(
            b"PK\x01\x02",
            version,
            _UNIX,
            version,
            _flags(entry),
            0,
            time.dos_time,
            time.dos_date,
            crc32 if entry.crc32 is None else entry.crc32,
            size,
            size,
            len(name),
            len(extra),
            0,
            0,
            0,
            _REGULAR_0644,
            _MAX32 if far else offset,
        )
        return fixed + name + extra


def _flags(entry: ZipEntry) -> int:
    return _UTF8_NAME | (_DESCRIPTOR_FOLLOWS if entry.crc32 is None else 0)


def _descriptor_size(entry: ZipEntry) -> int:
    if entry.crc32 is not None:
        return 0
    return _DESCRIPTOR64.size if entry.size >= _MAX32 else _DESCRIPTOR.size


class _ZipTime(NamedTuple):
    """A modification time as zip headers encode it: MS-DOS time and date (4.4.6), in UTC and clamped to the years 1980 to 2107, and Info-ZIP's extended
    timestamp in seconds since 1970. The timestamp is omitted if it does not fit into 32 bits."""

    dos_time: int
    dos_date: int
    extra: bytes

    @classmethod
    def of(cls, modified: datetime) -> _ZipTime:
        moment = min(max(modified.astimezone(UTC), _DOS_FIRST), _DOS_LAST)
        seconds = (modified - _EPOCH) // _SECOND
        return cls(
            moment.hour << 11 | moment.minute << 5 | moment.second >> 1,
            (moment.year - 1980) << 9 | moment.month << 5 | moment.day,
            _TIME_EXTRA.pack(0x5455, 5, 1, seconds) if -(2**31) <= seconds < 2**31 else b"",
        )


def _pack_end_records(count: int, size: int, offset: int) -> bytes:
    """The end-of-central-directory record, after the zip64 records if a number exceeds the limits of the plain record (4.3.14 to 4.3.16)."""
    end64 = b""
    if count >= _MAX16 or size >= _MAX32 or offset >= _MAX32:
        end64 = _END64.pack(
            b"PK\x06\x06", _END64.size - 12, _VERSION64, _UNIX, _VERSION64, 0, 0, count, count, size, offset
        ) + _LOCATOR64.pack(b"PK\x06\x07", 0, offset + size, 1)
    count16 = min(count, _MAX16)
    return end64 + _END.pack(b"PK\x05\x06", 0, 0, count16, count16, min(size, _MAX32), min(offset, _MAX32), 0)


def _clip_pieces(pieces: Iterable[ZipPiece], first: int, stop: int) -> Iterator[ZipPiece]:
    """The parts of `pieces` from offset `first` up to `stop`. Placeholders are not clipped: archives that have them are sent whole."""
    for piece in pieces:
        begin, end = max(piece.offset, first), min(piece.offset + piece.length, stop)
        if begin >= end:
            continue
        if isinstance(piece, LiteralBytes):
            yield LiteralBytes(begin, piece.data[begin - piece.offset : end - piece.offset])
        elif isinstance(piece, MemberBytes):
            base = piece.span.first - piece.offset
            yield MemberBytes(begin, piece.index, ByteRange(base + begin, base + end - 1))
        else:
            yield piece
