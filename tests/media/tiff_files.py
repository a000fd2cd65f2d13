"""Writes TIFF files of several pages, also in SubIFDs, as BigTIFF, and with 16 bits a channel."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

_SHORT, _LONG, _LONG8 = 3, 4, 16
_FORMATS = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_SUB_DIRECTORIES = 330


@dataclass(frozen=True, slots=True)
class TiffPage:
    """`image` in mode L, RGB or CMYK. `subfile_type` is the tag NewSubfileType, None to leave it out; `tags` are further values of SHORT."""

    image: Image.Image
    subfile_type: int | None = None
    bits: int = 8
    tags: dict[int, int] = field(default_factory=dict)
    children: Sequence[TiffPage] = ()


def encode_tiff(pages: Sequence[TiffPage], *, big: bool = False, order: str = "<") -> bytes:
    writer = _TiffWriter(big=big, order=order)
    return writer.write(pages)


class _TiffWriter:
    def __init__(self, *, big: bool, order: str) -> None:
        self._order, self._big = order, big
        self._offset_type = _LONG8 if big else _LONG
        self._data = bytearray((b"II" if order == "<" else b"MM") + self._pack("H", 43 if big else 42))
        if big:
            self._data += self._pack("HH", 8, 0)

    def write(self, pages: Sequence[TiffPage]) -> bytes:
        link = self._reserve_offset()
        for page in pages:
            offset, following = self._write_page(page)
            self._set_offset(link, offset)
            link = following
        return bytes(self._data)

    def _write_page(self, page: TiffPage) -> tuple[int, int]:
        """The offset of the directory, and where the offset of the next is."""
        children = [self._write_page(child)[0] for child in page.children]
        image, channels = page.image, len(page.image.getbands())
        strip = len(self._data)
        pixels = image.tobytes()
        self._data += b"".join(self._pack("H", value * 257) for value in pixels) if page.bits == 16 else pixels
        length = len(self._data) - strip
        self._data += bytes(len(self._data) % 2)
        bits = self._write_array(_SHORT, [page.bits] * channels)
        entries: dict[int, tuple[int, int, int]] = {
            256: (_LONG, 1, image.width), 257: (_LONG, 1, image.height), 258: (_SHORT, channels, bits), 259: (_SHORT, 1, 1),
            262: (_SHORT, 1, {"L": 1, "RGB": 2, "CMYK": 5}[image.mode]), 273: (self._offset_type, 1, strip),
            277: (_SHORT, 1, channels), 278: (_LONG, 1, image.height), 279: (self._offset_type, 1, length),
        }  # fmt: skip
        if page.subfile_type is not None:
            entries[254] = (_LONG, 1, page.subfile_type)
        if children:
            entries[_SUB_DIRECTORIES] = (
                self._offset_type,
                len(children),
                self._write_array(self._offset_type, children),
            )
        entries |= {tag: (_SHORT, 1, value) for tag, value in page.tags.items()}
        return self._write_directory(entries)

    def _write_array(self, kind: int, values: list[int]) -> int:
        """The content of an entry: the values themselves where they fit, else their offset."""
        if len(values) == 1:
            return values[0]
        packed = self._pack(_FORMATS[kind] * len(values), *values)
        field = "Q" if self._big else "I"
        if len(packed) <= struct.calcsize(field):
            return struct.unpack(self._order + field, packed.ljust(struct.calcsize(field), b"\0"))[0]
        self._data += bytes(-len(self._data) % 8)
        self._data += packed
        return len(self._data) - len(packed)

    def _write_directory(self, entries: dict[int, tuple[int, int, int]]) -> tuple[int, int]:
        self._data += bytes(-len(self._data) % 8)
        offset = len(self._data)
        width = 8 if self._big else 4
        self._data += self._pack("Q" if self._big else "H", len(entries))
        for tag, (kind, count, value) in sorted(entries.items()):
            self._data += self._pack("HHQ" if self._big else "HHI", tag, kind, count)
            if count == 1:
                self._data += self._pack(_FORMATS[kind], value).ljust(width, b"\0")
            else:
                self._data += self._pack("Q" if self._big else "I", value)
        return offset, self._reserve_offset()

    def _reserve_offset(self) -> int:
        self._data += bytes(8 if self._big else 4)
        return len(self._data) - (8 if self._big else 4)

    def _set_offset(self, at: int, value: int) -> None:
        struct.pack_into(self._order + ("Q" if self._big else "I"), self._data, at, value)

    def _pack(self, format: str, *values: int) -> bytes:
        return struct.pack(self._order + format, *values)
