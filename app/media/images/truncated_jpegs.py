"""Decodes JPEGs that lack their last bytes, as interrupted copies and some cameras leave them. Runs in a worker.

Without the end marker libjpeg does not return the last rows of blocks, and Pillow refuses the file, although all of the picture may be there.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import BinaryIO, cast

from PIL import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from app.media.containers.jpeg_segments import find_first_scan

_MAX_MISSING = 0.02
"""Part of the rows, beside those of the last row of blocks, that may be missing. They are shown in grey."""

_BLOCK_ROWS = 8
_CONTEXT_ROWS = 2
"""Rows that libjpeg holds back because it interpolates colour between blocks."""

_UNDECODED = (255, 1, 254, 3)
"""A colour that no decoded row has throughout."""

_SCAN = re.compile(rb"\xff\xda..(.)", re.DOTALL)
_COEFFICIENTS = 64
"""Of a block (ITU-T T.81 section A.3.6)."""


def decode_jpeg(image: JpegImageFile) -> bool:
    """Decode; False if the last bytes are missing. Raises Pillow's exceptions for any other damage, and if a part of the picture is missing."""
    try:
        image.load()
    except OSError:
        # Tiles are left if the decoder found no error in all bytes, and waits for more.
        if not image.tile or not _lacks_only_its_end(image):
            raise
    else:
        return True
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # Pillow then appends the end marker
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return False


def _lacks_only_its_end(image: JpegImageFile) -> bool:
    if "progressive" in image.info:
        return _begins_every_scan(image)
    scale = image.decoderconfig[0] if image.decoderconfig else 1
    held_back = _BLOCK_ROWS * max(layer[2] for layer in image.layer) / scale + _CONTEXT_ROWS
    return _reaches_row(image, image.height - 1 - round(held_back + _MAX_MISSING * image.height))


def _reaches_row(image: JpegImageFile, row: int) -> bool:
    """Whether decoding without an end marker reaches this row: decodes again over a colour, and looks where it shows."""
    if row < 0:
        return True
    bands = len(image.getbands())
    image.im.paste(_UNDECODED[:bands] if bands > 1 else _UNDECODED[1], (0, 0, *image.size))
    with suppress(OSError):
        image.load()
    shown = image.im.crop((0, row, image.width, row + 1))
    return any(
        shown.getband(band).getextrema() != (level, level)
        for band, level in enumerate(_UNDECODED[:bands] if bands > 1 else _UNDECODED[1:2])
    )


def _begins_every_scan(image: JpegImageFile) -> bool:
    """Whether each coefficient of each component reaches its last bit in some scan (ITU-T T.81 section G.1.1.1). The last scan is the one that
    is cut: it refines details."""
    file = cast("BinaryIO", image.fp)
    file.seek(find_first_scan(file))
    data = file.read()
    complete = dict[int, set[int]]()
    for scan in _SCAN.finditer(data):
        count = scan[1][0]
        header = data[scan.end() : scan.end() + 2 * count + 3]
        if len(header) < 2 * count + 3:
            break
        first, last, approximation = header[2 * count :]
        if not approximation & 0x0F:
            for component in header[: 2 * count : 2]:
                complete.setdefault(component, set()).update(range(first, last + 1))
    return all(len(complete.get(layer[0], ())) >= _COEFFICIENTS for layer in image.layer)
