"""The page draws the placeholders that the service has computed."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter

from app.media.images.thumbhash import thumbhash
from tests.real.page_modules import run_modules

DECODE = """
  const { decodeThumbhash, readAverageColor } = await load("library/grid/thumbhash.js");
  const hash = Uint8Array.from(Buffer.from(value, "base64"));
  const decoded = decodeThumbhash(hash);
  return decoded && { width: decoded.width, height: decoded.height, pixels: Array.from(decoded.pixels), average: readAverageColor(hash) };
"""
PUBLISHED = "1QcSHQRnh493V4dIh4eXh1h4kJUI"
"""The example of the definition's own page."""
TOLERANCE = 20


def _decode(hashed: bytes) -> dict[str, Any]:
    return run_modules(DECODE, base64.b64encode(hashed).decode())


@pytest.mark.parametrize("size", [(100, 66), (66, 100), (90, 90), (100, 30)])
def test_a_placeholder_resembles_the_picture(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (200, 120, 40))
    ImageDraw.Draw(picture).rectangle((0, 0, size[0] // 2, size[1]), fill=(30, 90, 180))
    picture = picture.filter(ImageFilter.GaussianBlur(15))

    decoded = _decode(thumbhash(*size, picture.tobytes()))

    assert abs(decoded["width"] / decoded["height"] - size[0] / size[1]) < 0.25 * size[0] / size[1]
    expected = picture.resize((decoded["width"], decoded["height"])).convert("RGBA").tobytes()
    differences = [abs(one - other) for one, other in zip(decoded["pixels"], expected, strict=True)]
    assert sum(differences) / len(differences) < TOLERANCE


def test_the_average_colour_is_that_of_the_picture() -> None:
    decoded = _decode(thumbhash(50, 50, bytes((180, 60, 90)) * 2500))

    red, green, blue = (int(part) for part in decoded["average"].removeprefix("rgb(").removesuffix(")").split())
    assert abs(red - 180) < TOLERANCE
    assert abs(green - 60) < TOLERANCE
    assert abs(blue - 90) < TOLERANCE


def test_the_published_example_is_decoded() -> None:
    decoded = _decode(base64.b64decode(PUBLISHED))

    assert (decoded["width"], decoded["height"]) == (17, 24)
    assert set(decoded["pixels"][3::4]) == {255}


@pytest.mark.parametrize("hashed", [b"", b"\0", b"\xff" * 4])
def test_bytes_that_are_no_hash_draw_nothing(hashed: bytes) -> None:
    assert _decode(hashed) is None


@pytest.mark.parametrize("hashed", [b"\xff" * 5, b"\0" * 5, b"\xff" * 40])
def test_a_hash_that_breaks_off_is_drawn(hashed: bytes) -> None:
    assert 1 <= _decode(hashed)["width"] <= 24
