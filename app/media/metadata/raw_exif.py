"""Reads EXIF of camera RAW files. Most RAW formats are TIFF with another header."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

_TIFF_HEADERS = {
    b"II*\0": b"II*\0",
    b"MM\0*": b"MM\0*",
    b"IIRO": b"II*\0",
    b"IIRS": b"II*\0",
    b"IIU\0": b"II*\0",
    b"MMOR": b"MM\0*",
}
"""Headers of TIFF, Olympus and Panasonic, and the TIFF header that replaces each."""

_DIRECTORY_BYTES = 16 * 1024 * 1024
"""Bytes of the file's beginning that are searched for directories; the sensor's data follows them."""


def read_raw_exif(source: Path) -> Image.Exif | None:
    """None for a file that is no TIFF or has no readable EXIF; the caller then uses the EXIF of the preview."""
    with source.open("rb") as file:
        head = file.read(_DIRECTORY_BYTES)
    header = _TIFF_HEADERS.get(head[:4])
    if header is None:
        return None
    exif = Image.Exif()
    try:
        exif.load_from_fp(io.BytesIO(header + head[4:]))  # pyright: ignore[reportUnknownMemberType]
    except Exception:  # noqa: BLE001 - unreadable EXIF must not make the photo fail
        return None
    return exif
