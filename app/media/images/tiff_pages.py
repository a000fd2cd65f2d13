"""Chooses the page of a TIFF that is shown, and limits the number of pages. Decodes nothing.

Scanners and editors write a reduced page first, or the full one into a sub-directory (tag SubIFDs), which Pillow does not look at.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.media.errors import DecodeFailed, LimitExceeded

_WIDTH, _HEIGHT, _SUBFILE_TYPE, _PHOTOMETRIC, _ORIENTATION, _SUB_DIRECTORIES = 256, 257, 254, 262, 274, 330
_TAGS = frozenset({_WIDTH, _HEIGHT, _SUBFILE_TYPE, _PHOTOMETRIC, _ORIENTATION, _SUB_DIRECTORIES})
_INTEGER_FORMATS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""SHORT, LONG, IFD, and BigTIFF's LONG8 and IFD8."""

_TRANSPARENCY_MASK = 4
_SENSOR_DATA = frozenset({32803, 34892})
"""PhotometricInterpretation of camera RAW, which is not shown as it is: colour filter array, linear RAW."""

_MAX_ENTRIES = 4096
_MAX_CHILDREN = 64


@dataclass(frozen=True, slots=True)
class TiffPage:
    """A directory at `offset`. `orientation` is EXIF's; None if it is not given."""

    offset: int
    width: int
    height: int
    orientation: int | None
    is_picture: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """Differences between TIFF 6.0 and BigTIFF: struct formats of the number of entries, of an entry's head and of an offset."""

    order: str
    count: str
    entry: str
    offset: str
    header_size: int
    file_size: int


_Values = dict[int, tuple[int, ...]]


def read_tiff_pages(source: Path, max_pages: int) -> list[TiffPage]:
    """The pages in order, each followed by those in its sub-directories; empty for a damaged header. Raises `LimitExceeded` for more than
    `max_pages`, and `DecodeFailed` if they form a loop."""
    with source.open("rb") as file:
        layout = _read_layout(file)
        if layout is None:
            return []
        pages: list[TiffPage] = []
        seen: set[int] = set()
        offset = _read_offset(file, layout, layout.header_size - struct.calcsize(layout.offset))
        while offset:
            if offset in seen:
                raise DecodeFailed("its directories form a loop")
            seen.add(offset)
            if len(seen) > max_pages:
                raise LimitExceeded(f"it has more than {max_pages} pictures")
            values, offset_of_next = _read_directory(file, layout, offset)
            pages.append(_build_page(offset, values))
            for child in values.get(_SUB_DIRECTORIES, ()):
                if child and child not in seen:
                    seen.add(child)
                    pages.append(_build_page(child, _read_directory(file, layout, child)[0]))
            offset = _read_offset(file, layout, offset_of_next)
    return pages


def choose_page(pages: list[TiffPage]) -> TiffPage | None:
    """The largest picture; of equal ones the first."""
    pictures = [page for page in pages if page.is_picture]
    return max(pictures, key=lambda page: page.width * page.height, default=None)


def open_at_page(source: Path, page: TiffPage) -> BinaryIO:
    """The file as if `page` was its first."""
    with source.open("rb") as file:
        layout = _read_layout(file)
        if layout is None:
            raise DecodeFailed("it is no TIFF")
        file.seek(0)
        header = file.read(layout.header_size)
    width = struct.calcsize(layout.offset)
    return io.BufferedReader(
        _PatchedFile(source, header[:-width] + struct.pack(layout.order + layout.offset, page.offset))
    )


class _PatchedFile(io.RawIOBase):
    """A file that begins with other bytes."""

    def __init__(self, source: Path, head: bytes) -> None:
        self._file = source.open("rb", buffering=0)
        self._head = head

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        at = self._file.tell()
        count = self._file.readinto(buffer) or 0
        patched = self._head[at : at + count]
        buffer[: len(patched)] = patched
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _read_layout(file: BinaryIO) -> _Layout | None:
    file_size = os.fstat(file.fileno()).st_size
    head = file.read(8)
    if len(head) < 8:
        return None
    order = "<" if head[:2] == b"II" else ">"
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version == 42:
        return _Layout(order, "H", "HHI", "I", 8, file_size)
    return _Layout(order, "Q", "HHQ", "Q", 16, file_size) if version == 43 else None


def _read_offset(file: BinaryIO, layout: _Layout, at: int) -> int:
    """0 where the file ends too early."""
    return _unpack(layout, layout.offset, _read_at(file, layout, at, struct.calcsize(layout.offset)))


def _read_directory(file: BinaryIO, layout: _Layout, offset: int) -> tuple[_Values, int]:
    """The values of the tags that are needed, and where the offset of the next directory is."""
    count_width, field = struct.calcsize(layout.count), struct.calcsize(layout.offset)
    count = _unpack(layout, layout.count, _read_at(file, layout, offset, count_width))
    entry_size = struct.calcsize(layout.order + layout.entry) + field
    values: _Values = {}
    entries = _read_at(file, layout, offset + count_width, entry_size * min(count, _MAX_ENTRIES))
    for at in range(0, len(entries) - entry_size + 1, entry_size):
        tag, kind, length = struct.unpack_from(layout.order + layout.entry, entries, at)
        if tag in _TAGS and kind in _INTEGER_FORMATS:
            inline = entries[at + entry_size - field : at + entry_size]
            values[tag] = _read_values(file, layout, _INTEGER_FORMATS[kind], min(length, _MAX_CHILDREN), inline)
    return values, offset + count_width + entry_size * count


def _read_values(file: BinaryIO, layout: _Layout, format: str, length: int, inline: bytes) -> tuple[int, ...]:
    size = struct.calcsize(format) * length
    data = inline
    if size > len(inline):
        data = _read_at(file, layout, _unpack(layout, layout.offset, inline), size)
    whole = min(len(data), size) // struct.calcsize(format)
    return struct.unpack_from(f"{layout.order}{whole}{format}", data)


def _build_page(offset: int, values: _Values) -> TiffPage:
    def get(tag: int) -> int | None:
        return next(iter(values.get(tag, ())), None)

    is_mask = bool((get(_SUBFILE_TYPE) or 0) & _TRANSPARENCY_MASK)
    return TiffPage(
        offset,
        get(_WIDTH) or 0,
        get(_HEIGHT) or 0,
        get(_ORIENTATION),
        is_picture=not is_mask and get(_PHOTOMETRIC) not in _SENSOR_DATA,
    )


def _read_at(file: BinaryIO, layout: _Layout, offset: int, length: int) -> bytes:
    if offset >= layout.file_size:
        return b""  # a file system refuses to seek far beyond the end
    file.seek(offset)
    return file.read(length)


def _unpack(layout: _Layout, format: str, data: bytes) -> int:
    return struct.unpack(layout.order + format, data)[0] if len(data) == struct.calcsize(format) else 0
