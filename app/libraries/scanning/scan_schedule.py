"""Computes when the nightly scan is due. Pure: no I/O."""

from __future__ import annotations

from datetime import datetime, time, timedelta, tzinfo

OFF = "off"


def next_scan_at(time_of_day: str, after: datetime, zone: tzinfo | None = None) -> datetime | None:
    """The first moment after `after` (aware) at which clocks in `zone` (None: this machine's) show `time_of_day` (`HH:MM`); None if that is
    `off`. A time that daylight saving skips comes an hour later."""
    if time_of_day == OFF:
        return None
    hour, minute = map(int, time_of_day.split(":"))
    local = after.astimezone(zone)
    for days in range(3):
        wall = datetime.combine(local.date() + timedelta(days=days), time(hour, minute))
        due = wall.replace(tzinfo=zone) if zone is not None else wall.astimezone()
        if due > after:
            return due.astimezone(zone)
    raise AssertionError("a day of more than 48 hours")
