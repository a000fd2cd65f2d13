"""Computes ThumbHashes: some 25 bytes from which a client draws a placeholder of a picture (https://evanw.github.io/thumbhash)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

MAX_EDGE = 100
"""Pixels. ThumbHash is defined for pictures up to this edge."""

_LUMINANCE_COMPONENTS = 7
_COLOUR_COMPONENTS = 3


class _Channel(NamedTuple):
    """`mean` of the samples; `scale`, the largest absolute coefficient; `coefficients`, divided by `scale` and shifted to 0 to 1, so that 0.5
    stands for 0."""

    mean: float
    scale: float
    coefficients: list[float]


def thumbhash(width: int, height: int, rgb: bytes) -> bytes:
    """The hash of an opaque picture of at most `MAX_EDGE` pixels an edge. `rgb`: three bytes a pixel, row by row.

    Differs from the definition only in the order of summation: the cosine transform runs over rows, then over columns.
    """
    if not 1 <= max(width, height) <= MAX_EDGE or len(rgb) != 3 * width * height:
        raise ValueError(f"{width} x {height} pixels in {len(rgb)} bytes")
    red, green, blue = ([value / 255 for value in rgb[first::3]] for first in range(3))
    yellow = [(r + g) / 2 for r, g in zip(red, green, strict=True)]
    columns = max(1, _round_half_up(_LUMINANCE_COMPONENTS * width / max(width, height)))
    rows = max(1, _round_half_up(_LUMINANCE_COMPONENTS * height / max(width, height)))
    size = (width, height)
    lightness = _transform(
        [(2 * y + b) / 3 for y, b in zip(yellow, blue, strict=True)], size, max(3, columns), max(3, rows)
    )
    yellow_blue = _transform(
        [y - b for y, b in zip(yellow, blue, strict=True)], size, _COLOUR_COMPONENTS, _COLOUR_COMPONENTS
    )
    red_green = _transform(
        [r - g for r, g in zip(red, green, strict=True)], size, _COLOUR_COMPONENTS, _COLOUR_COMPONENTS
    )

    header = (
        _quantized(lightness.mean, 63)
        | _quantized(0.5 + 0.5 * yellow_blue.mean, 63) << 6
        | _quantized(0.5 + 0.5 * red_green.mean, 63) << 12
        | _quantized(lightness.scale, 31) << 18
    )
    landscape = width > height
    shape = (
        (rows if landscape else columns)
        | _quantized(yellow_blue.scale, 63) << 3
        | _quantized(red_green.scale, 63) << 9
        | landscape << 15
    )
    nibbles = [
        _quantized(value, 15) for channel in (lightness, yellow_blue, red_green) for value in channel.coefficients
    ]
    pairs = zip(nibbles[::2], [*nibbles[1::2], *[0] * (len(nibbles) % 2)], strict=True)
    return header.to_bytes(3, "little") + shape.to_bytes(2, "little") + bytes(low | high << 4 for low, high in pairs)


def _transform(samples: list[float], size: tuple[int, int], columns: int, rows: int) -> _Channel:
    """The lowest frequencies of the cosine transform: those whose (column, row) lies in the triangle below `columns` x `rows`."""
    width, height = size
    across = [_cosines(width, frequency) for frequency in range(columns)]
    down = [_cosines(height, frequency) for frequency in range(rows)]
    lines = [samples[start : start + width] for start in range(0, width * height, width)]
    by_row = [[_dot(line, wave) for line in lines] for wave in across]
    mean, *rest = [
        _dot(by_row[column], down[row]) / (width * height)
        for row in range(rows)
        for column in range(columns)
        if column * rows < columns * (rows - row)
    ]
    scale = max(map(abs, rest), default=0.0)
    return _Channel(mean, scale, [0.5 + 0.5 * value / scale for value in rest] if scale else rest)


def _cosines(length: int, frequency: int) -> list[float]:
    return [math.cos(math.pi / length * frequency * (position + 0.5)) for position in range(length)]


def _dot(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(map(mul, values, weights))


def _quantized(value: float, steps: int) -> int:
    return _round_half_up(value * steps)


def _round_half_up(value: float) -> int:
    """Like `Math.round` in the definition. Python's `round` rounds halves to even."""
    return math.floor(value + 0.5)
