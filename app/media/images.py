"""Photos: one decode, and all that is made of it. Runs in a worker; the results are JSON and files in the working folder."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from PIL import Image, ImageStat

from app.media.colours import on_white_srgb, resizable
from app.media.errors import DecodeFailed
from app.media.exif import read_metadata
from app.media.pictures import Picture, open_picture
from app.media.signatures import Content
from app.media.sizes import PREVIEW_EDGE, SQUARE_EDGE, THUMBNAIL_EDGE, bounded, square_around
from app.media.thumbhash import MAX_EDGE as THUMBHASH_EDGE
from app.media.thumbhash import thumbhash

QUALITY = 80

_JPEG_MAX_EDGE = 65_500
_WEBP_MAX_EDGE = 16_383
_REDUCING_GAP = 2.0
"""How many times larger than wanted a picture stays in the quick reduction by whole numbers that goes before the slow filter."""

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's orientation."""


def make_derivatives(
    source: str, content: str, pixels: int, fullsize: str | None, preview: str, thumbnail: str
) -> dict[str, Any]:
    """Writes the files named; `fullsize` None for none. Sizes in pixels as shown, `brightness` the preview's mean, 0 to 255."""
    kind = Content(content)
    picture = open_picture(Path(source), kind, pixels)
    metadata = read_metadata(picture.image, Path(source) if kind is Content.RAW else None)
    profile = picture.image.info.get("icc_profile")
    size = bounded(picture.width, picture.height, PREVIEW_EDGE, _JPEG_MAX_EDGE)
    if fullsize is not None:
        full = turned(on_white_srgb(resizable(picture.image), profile), picture.orientation)
        _save_jpeg(full, fullsize)
        small = _resized(full, size if picture.orientation < 5 else (size[1], size[0]))
    else:
        small = turned(on_white_srgb(_resized(_reduced(picture, size), size), profile), picture.orientation)
    _save_jpeg(small, preview)
    smaller = _resized(small, bounded(*small.size, THUMBNAIL_EDGE, _WEBP_MAX_EDGE))
    smaller.save(thumbnail, "WEBP", quality=QUALITY, method=4)
    width, height = picture.shown_size
    return {
        "width": width,
        "height": height,
        "thumbhash": base64.b64encode(placeholder(smaller)).decode(),
        "metadata": metadata.to_json(),
        "brightness": max(ImageStat.Stat(smaller.convert("L")).mean),
    }


def make_square(
    source: str, content: str, pixels: int, box: tuple[float, float, float, float] | None, square: str
) -> dict[str, Any]:
    """Writes a JPEG of `SQUARE_EDGE`: around the middle of `box` (left, top, right, bottom as fractions of the picture as shown), of
    the whole picture's middle for None."""
    picture = open_picture(Path(source), Content(content), pixels)
    left, top, right, bottom = square_around(box, *picture.shown_size)
    scale = max(right - left, 1) / SQUARE_EDGE
    needed = [max(1, round(edge / scale)) for edge in (picture.width, picture.height)]
    profile = picture.image.info.get("icc_profile")
    reduced = _reduced(picture, (min(needed[0], picture.width), min(needed[1], picture.height)))
    shown = turned(resizable(reduced), picture.orientation)
    across, down = (edge / whole for edge, whole in zip(shown.size, picture.shown_size, strict=True))
    cut = shown.resize(
        (SQUARE_EDGE, SQUARE_EDGE),
        Image.Resampling.LANCZOS,
        box=(left * across, top * down, min(right * across, shown.width), min(bottom * down, shown.height)),
        reducing_gap=_REDUCING_GAP,
    )
    _save_jpeg(on_white_srgb(cut, profile), square)
    return {}


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """As EXIF's orientation says it is to be shown."""
    transposition = _TRANSPOSITIONS.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def placeholder(image: Image.Image) -> bytes:
    """The ThumbHash of an RGB picture of any size."""
    scale = min(1.0, THUMBHASH_EDGE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return thumbhash(*size, _resized(image, size).tobytes())


def _reduced(picture: Picture, size: tuple[int, int]) -> Image.Image:
    """Decoded; a JPEG at the eighth, quarter or half that is still no smaller than `size`."""
    if picture.image.format in ("JPEG", "MPO"):
        picture.image.draft(None, size)
    picture.image.load()
    return picture.image


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    image = resizable(image)
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)


def _save_jpeg(image: Image.Image, name: str) -> None:
    if max(image.size) > _JPEG_MAX_EDGE:
        raise DecodeFailed(f"it is longer than a JPEG can be: {max(image.size)} pixels")
    # Tables made to measure would save some per cent of the bytes and cost a sixth of the time of the whole.
    image.save(name, "JPEG", quality=QUALITY, subsampling=0)
