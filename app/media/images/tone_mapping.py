"""Converts HDR and wide-gamut pictures, whose colour space is given by code points, to sRGB.

HDR is shown as a display of SDR can: reference white (203 cd/m2, ITU-R BT.2408) becomes white, and what is brighter is compressed with the curve of
ITU-R BT.2390-11 section 5.4.1. It is applied to the highest channel, and the ratio of the channels, and so the hue, stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageChops, ImageMath

from app.media.images.colour_spaces import BT_2020, DCI_P3, DISPLAY_P3, HDR_TRANSFERS, HLG, PQ, ColourSpace

_BAND_ROWS = 256
"""Rows that are converted at once, because each channel takes several images of floats meanwhile."""

_REFERENCE_WHITE = 203.0
_PEAK = 1000.0
"""cd/m2 of the brightest pixels of an HDR picture: that of the displays on which such pictures are made."""

_Row = tuple[float, float, float]
_Matrix = tuple[_Row, _Row, _Row]

_P3_TO_BT_709: _Matrix = (
    (1.224940, -0.224940, 0.0),
    (-0.042057, 1.042057, 0.0),
    (-0.019638, -0.078636, 1.098274),
)
"""From the chromaticities in SMPTE EG 432-1, with white D65."""

_TO_BT_709: dict[int, _Matrix] = {
    BT_2020: (  # ITU-R BT.2407-0 annex 1
        (1.660491, -0.587641, -0.072850),
        (-0.124550, 1.132900, -0.008349),
        (-0.018151, -0.100579, 1.118730),
    ),
    DISPLAY_P3: _P3_TO_BT_709,
    DCI_P3: _P3_TO_BT_709,
}
_IDENTITY: _Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_BT_2020_LUMA: _Row = (0.2627, 0.6780, 0.0593)
_HLG_GAMMA = 1.2
"""The system gamma of a display of 1000 cd/m2 (ITU-R BT.2100 table 5)."""

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
"""SMPTE ST 2084."""

_DEEP_LEVELS = 65_536
_DISPLAY_GAMMA = 2.4


def is_shown_as_srgb(colours: ColourSpace) -> bool:
    """Whether a picture without ICC profile needs no conversion. All curves but those of HDR are taken for that of sRGB, as viewers do."""
    return colours.transfer not in HDR_TRANSFERS and colours.primaries not in _TO_BT_709


def convert_to_srgb(image: Image.Image, colours: ColourSpace) -> Image.Image:
    """Convert an `RGB` image. Colours outside of what sRGB can show are cut off."""
    converter = _Converter(colours)
    converted = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND_ROWS):
        band = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))
        converted.paste(converter.convert(band), (0, top))
    return converted


class _Converter:
    """The tables of one conversion."""

    def __init__(self, colours: ColourSpace) -> None:
        self._transfer = colours.transfer
        self._matrix = _TO_BT_709.get(colours.primaries, _IDENTITY)
        decode = {PQ: _decode_pq, HLG: _decode_hlg}.get(self._transfer, _decode_srgb)
        levels = [decode(code / 255) for code in range(256)]
        self._linear = levels
        if self._transfer == PQ:
            self._gains = [_compute_gain(level) for level in levels]
        elif self._transfer == HLG:
            self._gains = [_compute_gain(_PEAK * (code / 255) ** _DISPLAY_GAMMA) for code in range(256)]
        self._signals = [round(255 * _encode_srgb(level / (_DEEP_LEVELS - 1))) for level in range(_DEEP_LEVELS)]

    def convert(self, band: Image.Image) -> Image.Image:
        codes = band.split()
        red, green, blue = (code.point(self._linear, "F") for code in codes)
        gain = self._build_gain(codes, red, green, blue)
        channels = []
        for row in self._matrix:
            deep = _evaluate(_build_mixing(row), red=red, green=green, blue=blue, gain=gain)
            channels.append(deep.point(self._signals, "L"))
        return Image.merge("RGB", channels)

    def _build_gain(
        self, codes: tuple[Image.Image, ...], red: Image.Image, green: Image.Image, blue: Image.Image
    ) -> Image.Image | float:
        """The factor from linear light to light in which 1 is white, by pixel."""
        if self._transfer not in HDR_TRANSFERS:
            return 1.0
        highest = ImageChops.lighter(ImageChops.lighter(codes[0], codes[1]), codes[2])
        if self._transfer == PQ:
            return highest.point(self._gains, "F")
        scene = highest.point(self._linear, "F")
        system_gain = _evaluate(_apply_system_gamma, red=red, green=green, blue=blue)
        display_code = _evaluate(_encode_display, scene=scene, gain=system_gain)
        tone_gain = display_code.point(self._gains, "F")
        return _evaluate(lambda args: args["first"] * args["second"], first=system_gain, second=tone_gain)


def _evaluate(expression: Callable[[dict[str, Any]], Any], **images: Image.Image | float) -> Image.Image:
    return ImageMath.lambda_eval(expression, **images)


def _build_mixing(row: _Row) -> Callable[[dict[str, Any]], Any]:
    def mix(args: dict[str, Any]) -> Any:
        level = (args["red"] * row[0] + args["green"] * row[1] + args["blue"] * row[2]) * args["gain"]
        limited = args["min"](args["max"](level * (_DEEP_LEVELS - 1) + 0.5, 0.0), _DEEP_LEVELS - 1.0)
        return args["convert"](limited, "I")

    return mix


def _apply_system_gamma(args: dict[str, Any]) -> Any:
    red, green, blue = _BT_2020_LUMA
    luma = args["red"] * red + args["green"] * green + args["blue"] * blue
    return luma ** (_HLG_GAMMA - 1) * _PEAK


def _encode_display(args: dict[str, Any]) -> Any:
    """The luminance of the display in 256 steps that are finer where it is dark."""
    share = args["min"](args["scene"] * args["gain"] / _PEAK, 1.0)
    return args["convert"](share ** (1 / _DISPLAY_GAMMA) * 255 + 0.5, "L")


def _compute_gain(luminance: float) -> float:
    """From a highest channel of so many cd/m2 to what is shown, in units of white."""
    return _compress_highlights(luminance) / luminance / _REFERENCE_WHITE if luminance > 0 else 1 / _REFERENCE_WHITE


def _compress_highlights(luminance: float) -> float:
    """ITU-R BT.2390-11 section 5.4.1, from 0 … `_PEAK` to 0 … `_REFERENCE_WHITE` cd/m2."""
    signal = min(_encode_pq(luminance) / _PEAK_SIGNAL, 1.0)
    if signal < _KNEE:
        return luminance
    part = (signal - _KNEE) / (1 - _KNEE)
    square, cube = part * part, part * part * part
    spline = (
        (2 * cube - 3 * square + 1) * _KNEE
        + (cube - 2 * square + part) * (1 - _KNEE)
        + (3 * square - 2 * cube) * _WHITE_SIGNAL
    )
    return _decode_pq(spline * _PEAK_SIGNAL)


def _decode_pq(signal: float) -> float:
    root = signal ** (1 / _M2)
    return 10_000 * (max(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def _encode_pq(luminance: float) -> float:
    power = (luminance / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _decode_hlg(signal: float) -> float:
    """Light of the scene, 0 to 1 (ITU-R BT.2100 table 5)."""
    return signal * signal / 3 if signal <= 0.5 else (math.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12


def _decode_srgb(signal: float) -> float:
    return signal / 12.92 if signal <= 0.04045 else ((signal + 0.055) / 1.055) ** 2.4


def _encode_srgb(level: float) -> float:
    return 12.92 * level if level <= 0.0031308 else 1.055 * level ** (1 / 2.4) - 0.055


_PEAK_SIGNAL = _encode_pq(_PEAK)
_WHITE_SIGNAL = _encode_pq(_REFERENCE_WHITE) / _PEAK_SIGNAL
_KNEE = 1.5 * _WHITE_SIGNAL - 0.5
"""Relative to `_PEAK_SIGNAL`. Below the knee nothing changes."""
