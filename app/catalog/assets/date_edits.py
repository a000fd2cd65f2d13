"""Changes of the time at which a photo or video was taken: to another time, by a difference, or to another time zone. Runs
no statements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from app.catalog.errors import DateOutOfRange

_FIXED_OFFSET = re.compile(r"UTC(?:([+-])(\d{1,2})(?::([0-5]\d))?)?", re.ASCII)
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*", re.ASCII)
_NO_IANA_NAME = re.compile(r"localtime|posixrules|Factory|posix/.*|right/.*", re.ASCII)
"""Files beside those of the zones: they differ from host to host, or count leap seconds."""
_NO_SHIFT = timedelta(0)


@dataclass(frozen=True, slots=True)
class DateEdit:
    """`taken_at`, with a time zone, replaces the time; then `shift` is added; `zone` (see `parse_zone`) replaces the time
    zone, and the moment stays. None: as before."""

    taken_at: datetime | None = None
    shift: timedelta = _NO_SHIFT
    zone: str | None = None


def parse_zone(name: str) -> tzinfo | None:
    """The time zone of an IANA name, or of an offset as it is stored (`UTC`, `UTC+2`, `UTC-3:30`); None if it is neither."""
    match = _FIXED_OFFSET.fullmatch(name)
    if match is not None:
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return timezone(-offset if sign == "-" else offset) if offset < timedelta(hours=24) else None
    if not _ZONE_NAME.fullmatch(name) or _NO_IANA_NAME.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, not a file of zones, or a folder of them
        return None


def compute_dates(
    edit: DateEdit, taken_at: datetime, local: datetime, exif: Mapping[str, object] | None
) -> tuple[dict[str, Any], dict[str, object]]:
    """The values of the columns `file_created_at` and `local_date_time` after the edit, and the EXIF values that it
    writes. `local` is the local time, stored as if it were UTC; where the time zone is not known it keeps its distance
    from `taken_at`. Raises `DateOutOfRange`."""
    name = edit.zone or (exif or {}).get("timeZone")
    zone = parse_zone(name) if isinstance(name, str) else None
    try:
        moment = ((edit.taken_at or taken_at) + edit.shift).astimezone(UTC)
        shown = moment.astimezone(zone) if zone is not None else moment + _local_distance(edit, taken_at, local)
    except (OverflowError, ValueError):
        raise DateOutOfRange from None
    written: dict[str, object] = {
        "dateTimeOriginal": (shown if zone is not None else shown.replace(tzinfo=None)).isoformat()
    }
    if zone is not None:
        written["timeZone"] = name
    return {"file_created_at": moment, "local_date_time": shown.replace(tzinfo=UTC)}, written


def _local_distance(edit: DateEdit, taken_at: datetime, local: datetime) -> timedelta:
    return _NO_SHIFT if edit.taken_at is not None else local - taken_at
