"""The colour space of an opened picture: an ICC profile, or code points of ITU-T H.273. Runs in a worker."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from app.media.containers.heif_properties import read_nclx
from app.media.containers.png_chunks import read_cicp

UNSPECIFIED: Final = 2
BT_2020: Final = 9
DCI_P3: Final = 11
DISPLAY_P3: Final = 12
"""Primaries (ITU-T H.273 table 2). The others that occur are those of sRGB, or nearly."""

PQ: Final = 16
HLG: Final = 18
HDR_TRANSFERS: Final = frozenset({PQ, HLG})
"""Transfer characteristics (ITU-T H.273 table 3)."""

_MAX_TAGS = 100


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """An ICC profile takes precedence over code points (ISO/IEC 23000-22 section 7.3.6.4), except for HDR: profiles tell of it only by code points.
    In PNG code points take precedence (PNG, third edition, section 4.3)."""

    icc_profile: bytes | None = None
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


def read_colour_space(image: Image.Image, source: Path) -> ColourSpace:
    if image.format == "PNG" and (points := read_cicp(source)) is not None:
        return ColourSpace(None, *points)
    profile = image.info.get("icc_profile")
    if profile:
        points = _read_profile_cicp(profile)
        return ColourSpace(profile) if points is None or points[1] not in HDR_TRANSFERS else ColourSpace(None, *points)
    if image.format == "AVIF":
        points = read_nclx(source)
        return ColourSpace() if points is None else ColourSpace(None, *points)
    nclx = image.info.get("nclx_profile")
    if isinstance(nclx, dict):
        return ColourSpace(None, int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    return ColourSpace()


def _read_profile_cicp(profile: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of the tag `cicp` (ICC.1:2022 section 9.2.17). JPEG XL has no other way to tell them."""
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        for index in range(min(count, _MAX_TAGS)):
            name, offset = struct.unpack_from(">4sI", profile, 132 + 12 * index)
            if name == b"cicp":
                return profile[offset + 8], profile[offset + 9]
    except (struct.error, IndexError):
        pass
    return None
