"""Renders preview, thumbnail, full-size JPEG, ThumbHash and square crops of a photo from one decoding. Runs in a worker.

The results are JSON and files in the working folder.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from PIL import Image, ImageStat

from app.formats.signatures import DetectedFormat
from app.media.errors import DecodeFailed
from app.media.images.colour_conversion import to_resizable_mode, to_srgb_on_white
from app.media.images.decoding import open_image
from app.media.images.sizes import PREVIEW_EDGE, SQUARE_EDGE, THUMBNAIL_EDGE, compute_square, fit_size
from app.media.images.thumbhash import MAX_EDGE as THUMBHASH_EDGE
from app.media.images.thumbhash import thumbhash

ENCODING_QUALITY = 80

_JPEG_MAX_EDGE = 65_500
_WEBP_MAX_EDGE = 16_383
_REDUCING_GAP = 2.0
"""Pillow first reduces quickly, by whole factors, to at least this multiple of the target size; then it applies the slow filter."""

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Keys are EXIF's orientations."""


def make_derivatives(
    source: str, content: str, pixels: int, fullsize: str | None, preview: str, thumbnail: str
) -> dict[str, Any]:
    """Write the named files (no full-size JPEG for None). Returned sizes are in pixels, with orientation applied; `brightness` is the thumbnail's
    mean, 0 to 255; `damage` is None, or says what is wrong with the file."""
    picture = open_image(Path(source), DetectedFormat(content), pixels)
    size = fit_size(picture.width, picture.height, PREVIEW_EDGE, _JPEG_MAX_EDGE)
    is_complete = picture.decode(None if fullsize else size)
    if fullsize is not None:
        full = apply_orientation(
            to_srgb_on_white(to_resizable_mode(picture.image), picture.colours), picture.orientation
        )
        _save_jpeg(full, fullsize)
        small = _resize(full, size if picture.orientation < 5 else (size[1], size[0]))
    else:
        small = apply_orientation(to_srgb_on_white(_resize(picture.image, size), picture.colours), picture.orientation)
    _save_jpeg(small, preview)
    smaller = _resize(small, fit_size(*small.size, THUMBNAIL_EDGE, _WEBP_MAX_EDGE))
    smaller.save(thumbnail, "WEBP", quality=ENCODING_QUALITY, method=4)
    width, height = picture.display_size
    return {
        "width": width,
        "height": height,
        "thumbhash": base64.b64encode(make_thumbhash(smaller)).decode(),
        "brightness": max(ImageStat.Stat(smaller.convert("L")).mean),
        "damage": None if is_complete else "its last bytes are missing",
    }


def make_square(
    source: str, content: str, pixels: int, box: tuple[float, float, float, float] | None, square: str
) -> dict[str, Any]:
    """Write a square JPEG of `SQUARE_EDGE` pixels, cropped around the middle of `box`, or from the middle of the picture for None. `box` is left,
    top, right, bottom as fractions of the picture with orientation applied."""
    picture = open_image(Path(source), DetectedFormat(content), pixels)
    left, top, right, bottom = compute_square(box, *picture.display_size)
    scale = max(right - left, 1) / SQUARE_EDGE
    needed = [max(1, round(edge / scale)) for edge in (picture.width, picture.height)]
    picture.decode((min(needed[0], picture.width), min(needed[1], picture.height)))
    shown = apply_orientation(to_resizable_mode(picture.image), picture.orientation)
    across, down = (edge / whole for edge, whole in zip(shown.size, picture.display_size, strict=True))
    cut = shown.resize(
        (SQUARE_EDGE, SQUARE_EDGE),
        Image.Resampling.LANCZOS,
        box=(left * across, top * down, min(right * across, shown.width), min(bottom * down, shown.height)),
        reducing_gap=_REDUCING_GAP,
    )
    _save_jpeg(to_srgb_on_white(cut, picture.colours), square)
    return {}


def apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate and mirror as EXIF's orientation says."""
    transposition = _TRANSPOSITIONS.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def make_thumbhash(image: Image.Image) -> bytes:
    """The ThumbHash of an RGB picture of any size."""
    scale = min(1.0, THUMBHASH_EDGE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return thumbhash(*size, _resize(image, size).tobytes())


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    image = to_resizable_mode(image)
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)


def _save_jpeg(image: Image.Image, name: str) -> None:
    if max(image.size) > _JPEG_MAX_EDGE:
        raise DecodeFailed(f"it is longer than a JPEG can be: {max(image.size)} pixels")
    # Optimized Huffman tables would save some per cent of the bytes and cost a sixth of the total time.
    image.save(name, "JPEG", quality=ENCODING_QUALITY, subsampling=0)
