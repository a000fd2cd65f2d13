"""Converts any Pillow image to 8-bit sRGB on white: modes, bit depths, transparency, colour profiles, HDR.

Gain maps are ignored on purpose: the picture that they belong to is the one for SDR displays.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import cast

from PIL import Image, ImageCms

from app.media.images.colour_spaces import ColourSpace
from app.media.images.tone_mapping import convert_to_srgb, is_shown_as_srgb

_WHITE = 255
_SRGB = ImageCms.createProfile("sRGB")
_ALPHA = frozenset({"RGBA", "LA"})
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}
"""Colour space in the profile of an image, by the image's mode."""

_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


def to_resizable_mode(image: Image.Image) -> Image.Image:
    """Convert to a mode that can be resampled and has eight bits a channel: L, LA, RGB, RGBA, CMYK, YCbCr or LAB."""
    if image.mode in ("P", "PA") or (image.mode in ("L", "RGB") and "transparency" in image.info):
        transparent = image.mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if transparent else "RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in _PREMULTIPLIED:
        return image.convert(_PREMULTIPLIED[image.mode])
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_eight_bits(image)
    if image.mode in ("HSV", "RGBX"):
        return image.convert("RGB")
    return image


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale one deep channel to eight bits: from 16 bits if all values fit, from 0 to 1 for such floats, else from the range in use."""
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    low, high = cast("tuple[float, float]", image.getextrema())
    if image.mode == "I" and low >= 0 and high <= 0xFFFF:
        return image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0, 1
    scale = 255 / (high - low) if high > low else 0
    return image.convert("F").point(lambda value: value * scale + (0.5 - low * scale)).convert("L")


def to_srgb_on_white(image: Image.Image, colours: ColourSpace) -> Image.Image:
    """Convert to `RGB` and drop all metadata. An unreadable profile, or one for another colour space, is ignored."""
    image = _flatten_alpha(image)
    profile = colours.icc_profile
    converted = _apply_profile(image, profile) if profile or image.mode == "LAB" else None
    plain = converted if converted is not None else image.convert("RGB")
    if not profile and not is_shown_as_srgb(colours):
        plain = convert_to_srgb(plain, colours)
    plain.info = {}
    return plain


def _flatten_alpha(image: Image.Image) -> Image.Image:
    if image.mode not in _ALPHA:
        return image
    bare = image.mode[:-1]
    white = Image.new(bare, image.size, _WHITE if bare == "L" else (_WHITE, _WHITE, _WHITE))
    white.paste(image.convert(bare), mask=image.getchannel("A"))
    return white


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    with suppress(ImageCms.PyCMSError, OSError, ValueError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        space = source.profile.xcolor_space.strip()  # pyright: ignore[reportAttributeAccessIssue]
        if image.mode == "YCbCr" or (image.mode == "L" and space == "RGB"):
            image = image.convert("RGB")
        if space == _SPACES.get(image.mode) and not ImageCms.getProfileDescription(source).startswith("sRGB"):
            return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    return None
