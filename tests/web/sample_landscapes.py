"""Draws landscapes for the screenshots: skies, suns and layered hills in many palettes. Anybody may use them; nothing in them is anybody else's."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from PIL import Image, ImageDraw, ImageFilter

Color = tuple[int, int, int]

PALETTES: tuple[tuple[Color, Color, Color, Color], ...] = (
    ((22, 46, 92), (240, 150, 96), (255, 226, 170), (30, 34, 62)),
    ((94, 160, 214), (226, 240, 250), (255, 250, 230), (44, 92, 78)),
    ((60, 34, 84), (232, 96, 110), (255, 200, 140), (40, 20, 52)),
    ((138, 190, 200), (250, 236, 214), (255, 252, 240), (96, 120, 90)),
    ((12, 20, 44), (56, 84, 140), (226, 232, 250), (8, 14, 26)),
    ((196, 214, 226), (246, 246, 244), (255, 255, 255), (110, 132, 148)),
    ((70, 120, 170), (252, 206, 150), (255, 240, 190), (120, 74, 48)),
    ((36, 84, 96), (190, 226, 200), (250, 255, 230), (14, 52, 48)),
)
"""Sky above, sky at the horizon, sun, nearest hill."""
SHAPES = ((1500, 1000), (1000, 1500), (1600, 900), (1200, 1200), (1500, 1000), (1800, 800))
PER_DAY = 7
NEWEST = datetime(2026, 9, 20, 18, 30, tzinfo=UTC)
MAKE, MODEL, EXPOSURE, F_NUMBER, ISO, FOCAL_LENGTH, TAKEN, OFFSET, EXIF_BLOCK = (
    0x010F, 0x0110, 0x829A, 0x829D, 0x8827, 0x920A, 0x9003, 0x9011, 0x8769,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Landscape:
    name: str
    taken_at: datetime
    content: bytes


def draw_landscapes(count: int, seed: int) -> Iterator[Landscape]:
    """The same for the same seed; the newest first."""
    dice = random.Random(seed)
    moment = NEWEST
    for number in range(count):
        image = _draw(dice, SHAPES[number % len(SHAPES)], PALETTES[number * 3 % len(PALETTES)])
        out = io.BytesIO()
        image.save(out, "JPEG", quality=88, exif=_build_exif(image, moment, dice))
        yield Landscape(f"IMG_{4200 - number}.jpg", moment, out.getvalue())
        is_last_of_day = number % PER_DAY == PER_DAY - 1
        moment -= timedelta(days=dice.randrange(3, 50)) if is_last_of_day else timedelta(minutes=dice.randrange(2, 40))


def _draw(dice: random.Random, size: tuple[int, int], palette: tuple[Color, Color, Color, Color]) -> Image.Image:
    above, horizon, sun, ground = palette
    width, height = size
    image = Image.new("RGB", (1, 64))
    for row in range(64):
        image.putpixel((0, row), _mix(above, horizon, min(1.0, row / 40)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    _draw_sun(image, dice, sun)
    layers = dice.randrange(4, 7)
    for layer in range(layers):
        nearness = (layer + 1) / layers
        base = height * (0.5 + 0.42 * nearness)
        ridge = _draw_ridge(dice, width, base, height * (0.16 - 0.06 * nearness))
        hill = ImageDraw.Draw(image)
        hill.polygon([*ridge, (width, height), (0, height)], fill=_mix(horizon, ground, 0.25 + 0.75 * nearness))
    grain = Image.effect_noise(size, 26).convert("RGB")
    return Image.blend(image.filter(ImageFilter.GaussianBlur(0.6)), grain, 0.045)


def _draw_sun(image: Image.Image, dice: random.Random, color: Color) -> None:
    width, height = image.size
    x, y, radius = width * dice.uniform(0.2, 0.8), height * dice.uniform(0.2, 0.5), height * dice.uniform(0.03, 0.07)
    glow = Image.new("L", image.size)
    circle = ImageDraw.Draw(glow)
    circle.ellipse((x - radius * 3, y - radius * 3, x + radius * 3, y + radius * 3), fill=110)
    glow = glow.filter(ImageFilter.GaussianBlur(radius * 1.6))
    image.paste(Image.new("RGB", image.size, color), mask=glow)
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _draw_ridge(dice: random.Random, width: int, base: float, amplitude: float) -> list[tuple[float, float]]:
    """The upper edge of a hill: a sum of waves."""
    waves = [(dice.uniform(0.6, 1.4) * 2**n, dice.uniform(0, math.tau), amplitude / 1.7**n) for n in range(6)]
    return [
        (x, base + sum(math.sin(x / width * math.tau * speed + phase) * size for speed, phase, size in waves))
        for x in range(0, width + 8, 8)
    ]


def _mix(one: Color, other: Color, part: float) -> Color:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _build_exif(image: Image.Image, moment: datetime, dice: random.Random) -> Image.Exif:
    exif = image.getexif()
    exif[MAKE], exif[MODEL] = "Example", "Example X100"
    block = exif.get_ifd(EXIF_BLOCK)
    block[EXPOSURE], block[F_NUMBER] = dice.choice((1 / 60, 1 / 250, 1 / 500)), dice.choice((2.0, 4.0, 5.6))
    block[ISO], block[FOCAL_LENGTH] = dice.choice((100, 200, 400)), 23.0
    block[TAKEN], block[OFFSET] = moment.strftime("%Y:%m:%d %H:%M:%S"), "+00:00"
    return exif
