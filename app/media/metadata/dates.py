"""Parses dates that cameras and programs write, and chooses the date of capture with its zone. Pure.

A source that is unreadable, a placeholder, or in the future is skipped for the next one. Rules of zones as in exiftool and Immich.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

_DATE = r"(?P<year>\d{4})(?:\s*[:/.\-]\s*(?P<month>\d{1,2})(?:\s*[:/.\-]\s*(?P<day>\d{1,2}))?)?"
_COMPACT_DATE = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
_TIME = r"(?P<hour>\d{1,2})[:.](?P<minute>\d{1,2})(?:[:.](?P<second>\d{1,2})(?:[.,](?P<fraction>\d+))?)?\s*(?P<half>[AaPp][Mm])?"
_COMPACT_TIME = r"(?P<hour>\d\d)(?P<minute>\d\d)(?:(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
_ZONE = r"(?P<zone>[Zz]|(?:UTC|GMT)?\s*[+-]\d{1,2}(?::?\d\d)?|UTC|GMT)"
_FORMS = tuple(
    re.compile(rf"{date}(?:(?:\s*[Tt]\s*|\s+){time}\s*{_ZONE}?(?:\s*DST)?)?", re.ASCII)
    if date is _DATE
    else re.compile(rf"{date}(?:[Tt\s]?{time}\s*{_ZONE}?)?", re.ASCII)
    for date, time in ((_DATE, _TIME), (_COMPACT_DATE, _COMPACT_TIME))
)
_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+-])(\d{1,2}):?(\d\d)?", re.ASCII)
_MAX_TEXT = 64

_QUARTER = timedelta(minutes=15)
_GPS_TOLERANCE = timedelta(minutes=2)
"""The GPS clock is that of the last fix, which is some seconds older than the photo."""

_EARLIEST = datetime(1, 1, 3)  # noqa: DTZ001 - the first days of year 1 are a placeholder
_LATEST_DELAY = timedelta(days=1)
"""A date further in the future than this is a wrong one: clocks and zones differ by less than a day."""

_WIDEST_OFFSETS = (timedelta(hours=-12), timedelta(hours=14))
_QUARTER_OFFSETS = frozenset({-570, -210, -150, 210, 270, 330, 345, 390, 525, 570, 630, 765})
"""Minutes east of UTC, of the zones in use that are no whole hours."""


@dataclass(frozen=True, slots=True)
class DateSource:
    """One place where a date of capture may be written. `offset` is the tag that belongs to this date. `is_utc`: the text is a moment in UTC,
    as the clocks of GPS and QuickTime are, and says nothing about the zone."""

    text: str | None
    fraction: str | None = None
    offset: str | None = None
    is_utc: bool = False


@dataclass(frozen=True, slots=True)
class CaptureDate:
    """`moment` is aware if `has_zone`, or if it is a moment without a known zone (UTC then); else naive local time."""

    moment: datetime
    has_zone: bool


def parse_date(text: str | None, fraction: str | None = None) -> datetime | None:
    """The date of an EXIF, IPTC, XMP or QuickTime field, aware if a zone is part of the text. `fraction` is the field of the fraction of a
    second. Accepts one-digit parts, any usual separators or none, `24:00:00`, leap seconds, `PM` and a date alone. None for everything else,
    such as zeros and blanks."""
    stripped = (text or "").strip(" \0\t\r\n")
    if not stripped or len(stripped) > _MAX_TEXT:
        return None
    for form in _FORMS:
        matched = form.fullmatch(stripped)
        if matched is not None:
            with suppress(ValueError, OverflowError):
                return _build_date(matched.groupdict(), fraction)
    return None


def parse_offset(text: str | None) -> timezone | None:
    """`+09:00`, `-0330`, `+9`, `Z`; None for anything else and for offsets that no zone has."""
    stripped = (text or "").strip(" \0\t\r\n")
    if stripped in ("Z", "z", "UTC", "GMT"):
        return UTC
    matched = _OFFSET.fullmatch(stripped)
    if matched is None:
        return None
    sign, hours, minutes = matched.groups()
    if int(minutes or 0) >= 60:
        return None
    distance = timedelta(hours=int(hours), minutes=int(minutes or 0))
    offset = -distance if sign == "-" else distance
    return timezone(offset) if _WIDEST_OFFSETS[0] <= offset <= _WIDEST_OFFSETS[1] else None


def choose_capture_date(
    sources: Iterable[DateSource],
    offsets: Sequence[DateSource] = (),
    *,
    gps_time: datetime | None = None,
    now: datetime,
) -> CaptureDate | None:
    """The first source with a plausible date. Its zone is, in this order: the one in its text; its own offset tag; the offset tag of a date in
    `offsets` that is the same moment; the difference to `gps_time` (aware), if that is an offset in use."""
    for source in sources:
        written = parse_date(source.text, source.fraction)
        if written is None:
            continue
        if source.is_utc:
            moment = written if written.tzinfo is not None else written.replace(tzinfo=UTC)
            zone = None
        else:
            zone = written.tzinfo or parse_offset(source.offset) or _find_same_moment(written, offsets)
            zone = zone or _derive_zone(written, gps_time)
            moment = written.replace(tzinfo=zone)
        if is_plausible(moment, now):
            return CaptureDate(moment, has_zone=zone is not None)
    return None


def is_plausible(moment: datetime, now: datetime) -> bool:
    """False for dates in the future, and for those that cannot be expressed in another zone."""
    with suppress(OverflowError):
        wall_clock = moment.replace(tzinfo=None)
        universal = wall_clock if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
        return min(wall_clock, universal) >= _EARLIEST and universal <= now.replace(tzinfo=None) + _LATEST_DELAY
    return False


def _build_date(parts: dict[str, str | None], fraction: str | None) -> datetime | None:
    year, month, day = (int(parts[name] or 1) for name in ("year", "month", "day"))
    hour, minute, second = (int(parts.get(name) or 0) for name in ("hour", "minute", "second"))
    half = (parts.get("half") or "").lower()
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second)):
        return None
    digits = re.match(r"\d{1,6}", parts.get("fraction") or (fraction or "").strip(), re.ASCII)
    micros = int(digits[0].ljust(6, "0")) if digits else 0
    zone = parts.get("zone")
    moment = datetime(year, month, day, tzinfo=parse_offset(zone) if zone else None)
    return moment + timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micros)


def _find_same_moment(written: datetime, offsets: Sequence[DateSource]) -> timezone | None:
    for other in offsets:
        zone = parse_offset(other.offset)
        date = parse_date(other.text) if zone is not None else None
        if date is not None and date.replace(tzinfo=None, microsecond=0) == written.replace(microsecond=0):
            return zone
    return None


def _derive_zone(written: datetime, gps_time: datetime | None) -> timezone | None:
    if gps_time is None:
        return None
    with suppress(OverflowError):
        distance = written.replace(tzinfo=UTC) - gps_time
        offset = round(distance / _QUARTER) * _QUARTER
        if abs(distance - offset) > _GPS_TOLERANCE or not _WIDEST_OFFSETS[0] <= offset <= _WIDEST_OFFSETS[1]:
            return None
        minutes = offset // timedelta(minutes=1)
        return timezone(offset) if minutes % 60 == 0 or minutes in _QUARTER_OFFSETS else None
    return None
