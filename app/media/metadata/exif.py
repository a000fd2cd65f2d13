"""Reads EXIF and XMP of a photo into `MediaMetadata`. Runs in a worker.

Tags and dates follow EXIF 3.0 (CIPA DC-008); zones and GPS are read as by Immich and exiftool.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from app.media.metadata.media_metadata import MediaMetadata, format_zone
from app.media.metadata.xmp import XmpProperties, parse_xmp

_RATING = 0x4746
_WIDEST_OFFSET = timedelta(hours=14)
_QUARTER = timedelta(minutes=15)

ExifTags = Mapping[int, Any]


def build_metadata(exif: Image.Exif, packet: bytes) -> MediaMetadata:
    """Metadata from EXIF and an XMP packet. Unreadable fields are left out."""
    xmp = parse_xmp(packet)
    main: ExifTags = dict(exif)
    details: ExifTags = {}
    gps_tags: ExifTags = {}
    # A damaged directory must not make the photo fail.
    with suppress(Exception):
        details = exif.get_ifd(IFD.Exif)
    with suppress(Exception):
        gps_tags = exif.get_ifd(IFD.GPSInfo)
    return _build_metadata(main, details, gps_tags, xmp)


def get_xmp_packet(image: Image.Image) -> bytes:
    """The XMP packet; empty if there is none."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return packet.encode() if isinstance(packet, str) else bytes(packet)


def _build_metadata(main: ExifTags, details: ExifTags, gps_tags: ExifTags, xmp: XmpProperties) -> MediaMetadata:
    taken, modified = _read_dates(main, details, gps_tags)
    latitude, longitude = _read_position(gps_tags)
    rating = _parse_integer(main.get(_RATING)) if xmp.rating is None else xmp.rating
    width = _parse_integer(details.get(Base.ExifImageWidth)) or _parse_integer(main.get(Base.ImageWidth))
    height = _parse_integer(details.get(Base.ExifImageHeight)) or _parse_integer(main.get(Base.ImageLength))
    orientation = _parse_integer(main.get(Base.Orientation))
    return MediaMetadata(
        make=clean_text(main.get(Base.Make)),
        model=clean_text(main.get(Base.Model)),
        lens_model=clean_text(details.get(Base.LensModel)),
        exposure_time=_format_exposure(details.get(Base.ExposureTime)),
        f_number=_parse_positive(details.get(Base.FNumber)),
        iso=_parse_integer(details.get(Base.ISOSpeedRatings)),
        focal_length=_parse_positive(details.get(Base.FocalLength)),
        date_time_original=taken,
        modify_date=modified,
        time_zone=format_zone(taken),
        latitude=latitude,
        longitude=longitude,
        rating=rating if rating is not None and -1 <= rating <= 5 else None,
        description=clean_text(main.get(Base.ImageDescription)) or clean_text(xmp.description),
        orientation=str(orientation) if orientation is not None and 1 <= orientation <= 8 else None,
        projection_type=clean_text(xmp.projection_type),
        exif_image_width=width,
        exif_image_height=height,
    )


def clean_text(value: Any, max_length: int = 20_000) -> str | None:
    """Strip control characters; None for an empty text. Pillow decodes ASCII fields as Latin-1, but cameras write UTF-8 into them."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    with suppress(UnicodeError):
        value = value.encode("latin-1").decode("utf-8")
    kept = "".join(letter for letter in value[:max_length] if letter.isprintable() or letter in "\n\t")
    return kept.strip() or None


def _parse_number(value: Any) -> float | None:
    if isinstance(value, tuple | list):
        value = value[0] if value else None
    with suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):
        number = float(value)
        if math.isfinite(number):
            return number
    return None


def _parse_positive(value: Any) -> float | None:
    number = _parse_number(value)
    return round(number, 4) if number is not None and number > 0 else None


def _parse_integer(value: Any) -> int | None:
    number = _parse_number(value)
    return int(number) if number is not None and abs(number) < 2**31 else None


def _format_exposure(value: Any) -> str | None:
    """Seconds as exiftool writes them: `1/250`, `0.4`, `2.5`."""
    seconds = _parse_number(value)
    if seconds is None or seconds <= 0:
        return None
    if seconds < 0.25001:
        return f"1/{round(1 / seconds)}"
    return f"{seconds:.1f}".removesuffix(".0")


def _read_dates(main: ExifTags, details: ExifTags, gps_tags: ExifTags) -> tuple[datetime | None, datetime | None]:
    """Capture time and modification time."""
    gps_time = _read_gps_time(gps_tags)
    changed = _parse_date(main.get(Base.DateTime), details.get(Base.SubsecTime), details.get(Base.OffsetTime))
    for date, fraction, offset in (
        (Base.DateTimeOriginal, Base.SubsecTimeOriginal, Base.OffsetTimeOriginal),
        (Base.DateTimeDigitized, Base.SubsecTimeDigitized, Base.OffsetTimeDigitized),
    ):
        zone = details.get(offset) or details.get(Base.OffsetTime)
        taken = _parse_date(details.get(date), details.get(fraction), zone)
        if taken is not None:
            return _apply_gps_zone(taken, gps_time), changed
    return _apply_gps_zone(changed, gps_time) if changed is not None else gps_time, changed


def _parse_date(value: Any, fraction: Any, offset: Any) -> datetime | None:
    written = clean_text(value)
    matched = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?", written or "")
    if matched is None:
        return None
    digits = re.match(r"\d{1,6}", clean_text(fraction) or "")
    micros = int(digits[0].ljust(6, "0")) if digits else 0
    with suppress(ValueError):
        year, month, day, hour, minute, second = (int(part or 0) for part in matched.groups())
        return datetime(year, month, day, hour, minute, second, micros, tzinfo=_parse_zone(clean_text(offset)))
    return None


def _parse_zone(offset: str | None) -> timezone | None:
    matched = re.fullmatch(r"([+-])(\d{1,2}):?(\d\d)", offset or "")
    if offset == "Z":
        return UTC
    if matched is None:
        return None
    sign, hours, minutes = matched.groups()
    distance = timedelta(hours=int(hours), minutes=int(minutes))
    if distance > _WIDEST_OFFSET:
        return None
    return timezone(-distance if sign == "-" else distance)


def _read_gps_time(gps_tags: ExifTags) -> datetime | None:
    date = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d)", clean_text(gps_tags.get(GPS.GPSDateStamp)) or "")
    clock = gps_tags.get(GPS.GPSTimeStamp)
    if date is None or not isinstance(clock, tuple) or len(clock) != 3:
        return None
    hours, minutes, seconds = map(_parse_number, clock)
    if hours is None or minutes is None or seconds is None:
        return None
    with suppress(ValueError, OverflowError):
        day = datetime(*map(int, date.groups()), tzinfo=UTC)
        return day + timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return None


def _apply_gps_zone(taken: datetime, gps_time: datetime | None) -> datetime:
    """Derive a missing zone from the difference to the GPS time, rounded to quarters of an hour, as exiftool does."""
    if taken.tzinfo is not None or gps_time is None:
        return taken
    distance = taken.replace(tzinfo=UTC) - gps_time
    offset = round(distance / _QUARTER) * _QUARTER
    if abs(offset) > _WIDEST_OFFSET or abs(distance - offset) > _QUARTER / 3:
        return taken
    return taken.replace(tzinfo=timezone(offset))


def _read_position(gps_tags: ExifTags) -> tuple[float | None, float | None]:
    latitude = _parse_degrees(gps_tags.get(GPS.GPSLatitude), gps_tags.get(GPS.GPSLatitudeRef), "S", 90)
    longitude = _parse_degrees(gps_tags.get(GPS.GPSLongitude), gps_tags.get(GPS.GPSLongitudeRef), "W", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:  # cameras without a GPS fix write 0, 0
        return None, None
    return latitude, longitude


def _parse_degrees(value: Any, reference: Any, negative: str, most: int) -> float | None:
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    parts = [_parse_number(part) for part in value]
    if parts[0] is None:
        return None
    degrees = sum((part or 0) / 60**index for index, part in enumerate(parts))
    if (clean_text(reference) or "").upper().startswith(negative):
        degrees = -degrees
    return round(degrees, 7) if abs(degrees) <= most else None
