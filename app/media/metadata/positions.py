"""Parses positions as EXIF and XMP write them, in degrees, and finds the time zone of a position."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import tzfpy

_MAX_TEXT = 200


def parse_position(
    latitude: str | None, latitude_reference: str | None, longitude: str | None, longitude_reference: str | None
) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, WGS 84; None unless both are valid. Cameras without a fix write 0, 0."""
    north = _parse_degrees(latitude, latitude_reference, "S", 90)
    east = _parse_degrees(longitude, longitude_reference, "W", 180)
    if north is None or east is None or north == east == 0:
        return None
    return north, east


def _parse_degrees(text: str | None, reference: str | None, negative: str, most: int) -> float | None:
    """EXIF: three rational numbers, and a reference of its own. XMP: `52,31,7N`, `52,31.117N` (XMP part 1, section 8.2.2.4), or a decimal
    number, which some programs write."""
    stripped = (text or "").strip().upper()
    if not stripped or len(stripped) > _MAX_TEXT:
        return None
    if stripped[-1] in "NSEW":
        stripped, reference = stripped[:-1], stripped[-1]
    parts = [parse_number(part) for part in re.split(r"[\s,]+", stripped.strip(" ,"))]
    if not 1 <= len(parts) <= 3 or parts[0] is None:
        return None
    degrees = sum(abs(part or 0) / 60**index for index, part in enumerate(parts))
    if parts[0] < 0 or (reference or "").strip().upper().startswith(negative):
        degrees = -degrees
    return round(degrees, 7) if abs(degrees) <= most else None


def parse_number(text: str | None) -> float | None:
    """A decimal number or a fraction; None for anything else, and for infinity."""
    if text is None or len(text) > _MAX_TEXT:
        return None
    with suppress(ValueError, ZeroDivisionError, OverflowError):
        number = float(Fraction(text)) if "/" in text else float(text)
        if math.isfinite(number):
            return number
    return None


def find_zone(latitude: float, longitude: float) -> str | None:
    """The IANA name of the zone at a position, at sea `Etc/GMT…`; None if it is unknown."""
    return tzfpy.get_tz(longitude, latitude) or None


def localize(moment: datetime, zone: str) -> datetime | None:
    """An aware moment in `zone`, or a naive time as one of `zone`. The offset is that of the day. None for dates at the ends of the calendar
    and for unknown names."""
    with suppress(OverflowError, ValueError, KeyError, OSError):
        info = ZoneInfo(zone)
        local = moment.replace(tzinfo=info) if moment.tzinfo is None else moment.astimezone(info)
        return datetime.fromisoformat(local.isoformat())
    return None
