"""Changes of dates: whatever the date, the difference and the zone, the result is in the calendar or refused."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.assets.date_edits import DateEdit, compute_dates, parse_zone
from app.catalog.errors import DateOutOfRange

ZONES = ("UTC", "UTC+14", "UTC-12", "UTC+5:45", "Europe/Berlin", "Pacific/Apia", "America/St_Johns")
MOMENTS = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)


@given(
    taken_at=MOMENTS,
    distance=st.timedeltas(timedelta(hours=-14), timedelta(hours=14)),
    edit=st.builds(DateEdit, st.none() | MOMENTS, st.timedeltas(), st.none() | st.sampled_from(ZONES)),
    exif=st.none() | st.fixed_dictionaries({"timeZone": st.none() | st.sampled_from(ZONES) | st.just("Mars")}),
)
def test_a_date_stays_in_the_calendar(
    taken_at: datetime, distance: timedelta, edit: DateEdit, exif: dict[str, object] | None
) -> None:
    with suppress(OverflowError, DateOutOfRange):
        values, written = compute_dates(edit, taken_at, taken_at + distance, exif)

        stored = datetime.fromisoformat(str(written["dateTimeOriginal"]))
        assert values["file_created_at"] == (edit.taken_at or taken_at) + edit.shift
        assert stored.replace(tzinfo=UTC) == values["local_date_time"]
        assert stored.tzinfo is None or stored == values["file_created_at"]


def test_a_difference_and_its_opposite_cancel_out() -> None:
    taken_at = datetime(2024, 3, 31, 0, 30, tzinfo=UTC)
    shift = timedelta(minutes=90)

    first, exif = compute_dates(DateEdit(zone="Europe/Berlin", shift=shift), taken_at, taken_at, None)
    back, _ = compute_dates(DateEdit(shift=-shift), first["file_created_at"], first["local_date_time"], exif)

    assert back["file_created_at"] == taken_at
    assert back["local_date_time"] == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        *("", "UTC+24", "UTC+1:60", "utc+2 ", "Mars", "Europe", "/etc/passwd", "../UTC", "a\0b"),
        *("localtime", "posixrules", "Factory", "posix/Europe/Berlin", "right/Europe/Berlin"),
    ],
)
def test_what_is_no_zone(name: str) -> None:
    assert parse_zone(name) is None
