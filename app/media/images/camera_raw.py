"""Opens camera RAW files: takes the embedded preview if it is large enough, else develops the sensor's data.

Importing this module needs the optional package rawpy.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import rawpy
from PIL import Image

from app.media.errors import DecodeFailed

_LARGE_ENOUGH = 1000
"""Short edge in pixels from which the embedded preview is used. Development is slow and does not reproduce the camera's rendering."""

_SRGB_GAMMA = (2.4, 12.92)
"""Power and slope at black. LibRaw's default is the curve of BT.709, with which an sRGB picture is too dark."""

_ORIENTATION_OF_FLIP = {0: 1, 3: 3, 5: 8, 6: 6}
"""LibRaw's value (`imgdata.sizes.flip`) to EXIF's."""


@dataclass(frozen=True, slots=True)
class RawImage:
    """`width` and `height` of the sensor's picture in pixels, before `orientation` (EXIF's) is applied."""

    image: Image.Image
    width: int
    height: int
    orientation: int


def open_raw(source: Path) -> RawImage:
    """Raises `MediaError`."""
    try:
        with rawpy.imread(str(source)) as raw:
            orientation = _ORIENTATION_OF_FLIP.get(raw.sizes.flip, 1)
            width, height = raw.sizes.width, raw.sizes.height
            image = _embedded_preview(raw)
            if image is None:
                image = Image.fromarray(
                    raw.postprocess(use_camera_wb=True, output_bps=8, user_flip=0, gamma=_SRGB_GAMMA)
                )
            return RawImage(image, width, height, orientation)
    except rawpy.LibRawError as error:
        raise DecodeFailed(f"it is no camera RAW that can be read: {_text(error)}") from None


def _embedded_preview(raw: rawpy.RawPy) -> Image.Image | None:
    try:
        preview = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if isinstance(preview.data, bytes):
        image = Image.open(io.BytesIO(preview.data), formats=["JPEG"])
    else:
        image = Image.fromarray(preview.data)
    return image if min(image.size) >= min(_LARGE_ENOUGH, raw.sizes.width, raw.sizes.height) else None


def _text(error: Exception) -> str:
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)
