"""What HDR and wide-gamut code values look like in sRGB, computed from the definitions in the standards, independently of the service."""

from __future__ import annotations

import math
from collections.abc import Sequence

Colour = tuple[float, ...]

CHROMATICITIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""Red, green and blue by primaries (ITU-T H.273 table 2)."""

D65 = (0.3127, 0.3290)
WHITE, PEAK = 203.0, 1000.0


def srgb_of(code: Sequence[int], primaries: int, transfer: int) -> tuple[int, ...]:
    """The colour of 8-bit code values in 8-bit sRGB; `transfer` 13 (sRGB), 16 (PQ) or 18 (HLG)."""
    signal = [value / 255 for value in code]
    if transfer == 16:
        light = _tone_map([_pq_luminance(value) for value in signal])
    elif transfer == 18:
        scene = [_hlg_scene(value) for value in signal]
        luma = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
        light = _tone_map([PEAK * luma ** (1.2 - 1) * value if luma else 0.0 for value in scene])
    else:
        light = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in signal]
    shown = _multiply(_invert(_to_xyz(1)), _multiply(_to_xyz(primaries), light))
    return tuple(round(255 * _srgb_signal(min(max(level, 0.0), 1.0))) for level in shown)


def lab_of_srgb(colour: Sequence[int]) -> tuple[float, float, float]:
    """CIE L*a*b* with white D50 (ISO 11664-4), adapted by Bradford's matrix as ICC profiles are."""
    light = [value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour]
    adapted = _multiply(_D65_TO_D50, _multiply(_to_xyz(1), light))
    x, y, z = (
        value ** (1 / 3) if value > (6 / 29) ** 3 else value * 841 / 108 + 4 / 29
        for value in (part / white for part, white in zip(adapted, (0.9642, 1.0, 0.8249), strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


_D65_TO_D50 = [
    [1.0478112, 0.0228866, -0.0501270],
    [0.0295424, 0.9904844, -0.0170491],
    [-0.0092345, 0.0150436, 0.7521316],
]


def _tone_map(luminances: list[float]) -> list[float]:
    """ITU-R BT.2390-11 section 5.4.1 on the highest channel, from `PEAK` to `WHITE`; the result in units of `WHITE`."""
    highest = max(luminances)
    if highest == 0:
        return [0.0, 0.0, 0.0]
    e1 = min(_pq_signal(highest) / _pq_signal(PEAK), 1)
    max_lum = _pq_signal(WHITE) / _pq_signal(PEAK)
    ks = 1.5 * max_lum - 0.5
    e2 = e1
    if e1 >= ks:
        t = (e1 - ks) / (1 - ks)
        e2 = (2 * t**3 - 3 * t**2 + 1) * ks + (t**3 - 2 * t**2 + t) * (1 - ks) + (-2 * t**3 + 3 * t**2) * max_lum
    mapped = _pq_luminance(e2 * _pq_signal(PEAK))
    return [luminance * mapped / highest / WHITE for luminance in luminances]


def _pq_luminance(signal: float) -> float:
    """SMPTE ST 2084 equation 4.1, cd/m2."""
    root = signal ** (32 / 2523)
    return 10000 * (max(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)


def _pq_signal(luminance: float) -> float:
    power = (luminance / 10000) ** (1305 / 8192)
    return ((107 / 128 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def _hlg_scene(signal: float) -> float:
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * math.log(4 * a)
    return signal**2 / 3 if signal <= 0.5 else (math.exp((signal - c) / a) + b) / 12


def _srgb_signal(level: float) -> float:
    return 12.92 * level if level <= 0.0031308 else 1.055 * level ** (1 / 2.4) - 0.055


def _to_xyz(primaries: int) -> list[list[float]]:
    """SMPTE RP 177."""
    columns = [(x / y, 1.0, (1 - x - y) / y) for x, y in CHROMATICITIES[primaries]]
    matrix = [[column[row] for column in columns] for row in range(3)]
    white = [D65[0] / D65[1], 1.0, (1 - D65[0] - D65[1]) / D65[1]]
    scale = _multiply(_invert(matrix), white)
    return [[value * factor for value, factor in zip(row, scale, strict=True)] for row in matrix]


def _multiply(matrix: list[list[float]], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _invert(m: list[list[float]]) -> list[list[float]]:
    def cofactor(row: int, column: int) -> float:
        a, b = (row + 1) % 3, (row + 2) % 3
        c, d = (column + 1) % 3, (column + 2) % 3
        return m[a][c] * m[b][d] - m[a][d] * m[b][c]

    determinant = sum(m[0][column] * cofactor(0, column) for column in range(3))
    return [[cofactor(column, row) / determinant for column in range(3)] for row in range(3)]
