"""Reads EXIF, IPTC and XMP tags of files with exiv2. Runs in a worker: damaged files may crash libexiv2.

exiv2 reads JPEG, PNG, WebP, TIFF, HEIF, AVIF, JPEG XL in a container, JPEG 2000, PSD, GIF and camera RAW of all makers. It reads neither bare
JPEG XL codestreams, which have no metadata, nor BMP.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.media.metadata.media_metadata import clean_text
from app.media.metadata.tag_table import LENS_IDS, MAKER_NOTE, WANTED_KEYS

try:
    exiv2: Any = importlib.import_module("exiv2")
    exiv2.LogMsg.setLevel(exiv2.LogMsg.Level.mute)
except ImportError:  # no wheel for this system
    exiv2 = None

_MAX_VALUE_BYTES = 64 * 1024
"""Longer values are ignored. A maker note without known tags may be longer."""

_MAX_MAKER_NOTE_BYTES = 4 * 1024 * 1024
_LENS_IDS = frozenset(LENS_IDS)


@dataclass(frozen=True, slots=True)
class TagSet:
    """Tags of one file by key. Numbers are separated by spaces, rational ones are written `1/250`; of alternatives in several languages the
    default one. `width` and `height` of the picture as stored, in pixels; 0 if unknown."""

    values: Mapping[str, str] = field(default_factory=dict[str, str])
    maker_note: bytes = b""
    width: int = 0
    height: int = 0

    def first(self, keys: Iterable[str]) -> str | None:
        """The value of the first key that has one."""
        return next(self.present(keys), None)

    def has_family(self, prefix: str) -> bool:
        return any(key.startswith(prefix) for key in self.values)

    def present(self, keys: Iterable[str]) -> Iterator[str]:
        return (self.values[key] for key in keys if self.values.get(key))


def read_file_tags(source: Path) -> TagSet:
    """Empty for a file of a format that exiv2 does not know, and for one that it cannot read. Damaged tags are left out."""
    return _read_tags(str(source))


def read_packet_tags(packet: bytes) -> TagSet:
    """Tags of an XMP packet in UTF-8 that begins with an XML declaration. Empty for XML that is no RDF."""
    values = _read_tags(packet).values  # exiv2 makes EXIF tags from them, too
    return TagSet({key: value for key, value in values.items() if key.startswith("Xmp.")})


def add_exif_tags(tags: TagSet, exif: bytes) -> TagSet:
    """`tags`, and if there are none of EXIF among them those of `exif`, a TIFF structure."""
    if not exif or tags.has_family("Exif."):
        return tags
    added = _read_tags(exif)
    return replace(tags, values={**added.values, **tags.values}, maker_note=tags.maker_note or added.maker_note)


def add_packet_tags(tags: TagSet, packet: bytes) -> TagSet:
    """`tags`, and if there are none of XMP among them those of an XMP packet in UTF-8."""
    if not packet or tags.has_family("Xmp."):
        return tags
    return replace(tags, values={**read_packet_tags(packet).values, **tags.values})


def _read_tags(source: str | bytes) -> TagSet:
    """Tags of the file of that path, or of bytes in memory."""
    if exiv2 is None:
        return TagSet()
    try:
        image = exiv2.ImageFactory.open(source)
    except exiv2.Exiv2Error:
        return TagSet()
    with suppress(exiv2.Exiv2Error):  # what was read before the damage is kept
        image.readMetadata()
    values: dict[str, str] = {}
    maker_note = b""
    exif = image.exifData()
    for datum in exif:
        key = datum.key()
        if key == MAKER_NOTE and datum.size() <= _MAX_MAKER_NOTE_BYTES:
            maker_note = bytes(datum.value().data())
        elif key in WANTED_KEYS and key not in values and datum.size() <= _MAX_VALUE_BYTES:
            values[key] = _read_exif_value(datum, key, exif)
    for data in (image.iptcData(), image.xmpData()):
        _add_values(values, data)
    return TagSet(values, maker_note, image.pixelWidth(), image.pixelHeight())


def decode_text(value: str) -> str | None:
    """A text as exiv2 gives it, without control characters; None if it is empty. Texts should be ASCII or UTF-8; others are taken for Latin-1."""
    written = value.encode("utf-8", "surrogateescape")
    try:
        value = written.decode()
    except UnicodeDecodeError:
        value = written.decode("latin-1")
    return clean_text(value)


def _read_exif_value(datum: Any, key: str, data: Any) -> str:
    # Of a lens, exiv2 needs the other tags to choose between lenses of the same number.
    return decode_text(datum.print(data) if key in _LENS_IDS else datum.toString()) or ""


def _add_values(values: dict[str, str], data: Iterable[Any]) -> None:
    for datum in data:
        key = datum.key()
        if key in WANTED_KEYS and key not in values and datum.size() <= _MAX_VALUE_BYTES:
            value = datum.value()
            if isinstance(value, exiv2.LangAltValue):
                languages = dict(value.items())
                text = languages.get("x-default") or next(iter(languages.values()), "")
            else:
                text = datum.toString()
            values[key] = decode_text(text) or ""
