"""EXIF of camera RAW files, most of which are TIFF under another name."""

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
"""How TIFF's header begins, and what Olympus and Panasonic write in its place."""

_DIRECTORIES = 16 * 1024 * 1024
"""Bytes of the file's beginning in which its directories are looked for; the sensor's data comes after them."""


def read_raw_exif(source: Path) -> Image.Exif | None:
    """None for a file that is no TIFF (there the preview's own EXIF is what is known), or has nothing that can be read."""
    with source.open("rb") as file:
        head = file.read(_DIRECTORIES)
    header = _TIFF_HEADERS.get(head[:4])
    if header is None:
        return None
    exif = Image.Exif()
    try:
        exif.load_from_fp(io.BytesIO(header + head[4:]))  # pyright: ignore[reportUnknownMemberType]
    except Exception:  # noqa: BLE001 - whatever it is, it is not worth the picture
        return None
    return exif
