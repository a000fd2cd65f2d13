"""Dates as cameras and programs write them, and the choice of the date of capture and its zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.media.metadata.dates import (
    CaptureDate,
    DateSource,
    choose_capture_date,
    is_plausible,
    parse_date,
    parse_offset,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025:01:14 18:31:30", "2025-01-14T18:31:30"),
        ("2025:01:14 18:31:30+09:00", "2025-01-14T18:31:30+09:00"),
        ("2025:01:14 18:31:30Z", "2025-01-14T18:31:30+00:00"),
        ("2025:01:14 18:31:30 +0000", "2025-01-14T18:31:30+00:00"),
        ("2025:01:14 18:31:30.25-0300", "2025-01-14T18:31:30.250000-03:00"),
        ("2025-01-14T18:31:30", "2025-01-14T18:31:30"),
        ("2025-01-14T18:31:30,5Z", "2025-01-14T18:31:30.500000+00:00"),
        ("2025-01-14T18:31+05:45", "2025-01-14T18:31:00+05:45"),
        ("2025:1:14 8:31:30", "2025-01-14T08:31:30"),
        ("2025/01/14 18:31:30", "2025-01-14T18:31:30"),
        ("2025.01.14 18.31.30", "2025-01-14T18:31:30"),
        ("20250114 183130", "2025-01-14T18:31:30"),
        ("20250114T183130+0900", "2025-01-14T18:31:30+09:00"),
        ("20250114183130", "2025-01-14T18:31:30"),
        ("20250114", "2025-01-14T00:00:00"),
        ("2025:01:14 24:00:00", "2025-01-15T00:00:00"),
        ("2025:01:14 18:31:60", "2025-01-14T18:32:00"),
        ("2025:01:14 06:31:30 PM", "2025-01-14T18:31:30"),
        ("2025:01:14 12:31:30 AM", "2025-01-14T00:31:30"),
        ("2025:01:14", "2025-01-14T00:00:00"),
        ("2025-01", "2025-01-01T00:00:00"),
        ("2025", "2025-01-01T00:00:00"),
        (" 2025:01:14 18:31:30\0\0", "2025-01-14T18:31:30"),
        ("2025:01:14 18:31:30+09:00 DST", "2025-01-14T18:31:30+09:00"),
        ("0001:01:01 00:00:00", "0001-01-01T00:00:00"),
        ("9999:12:31 23:59:59", "9999-12-31T23:59:59"),
    ],
)
def test_forms_of_dates(text: str, expected: str) -> None:
    assert parse_date(text) == at(expected)


@pytest.mark.parametrize(
    "text",
    [
        None, "", "    :  :     :  :  ", "0000:00:00 00:00:00", "0000:00:00", "2025:00:00 00:00:00", "2025:13:14 00:00:00",
        "2025:02:31 18:31:30", "2025:01:14 25:00:00", "2025:01:14 24:00:01", "2025:01:14 18:60:00", "2025:01:14 18:31:61",
        "2025:01:14 13:31:30 PM", "14.01.2025", "yesterday", "9999:12:31 24:00:00", "12345:01:01 00:00:00", "2025:01:14 18:31:30" + " " * 100 + "x",
        "\u0662\u0660\u0662\u0665:01:14",
    ],
)  # fmt: skip
def test_what_is_no_date(text: str | None) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("fraction", "micros"), [("5", 500_000), ("025 ", 25_000), ("1234567", 123_456), ("x", 0), (None, 0)]
)
def test_fractions(fraction: str | None, micros: int) -> None:
    assert parse_date("2025:01:14 18:31:30", fraction) == datetime(2025, 1, 14, 18, 31, 30, micros)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("+09:00", 540), ("-0330", -210), ("+9", 540), ("Z", 0), ("+00:00", 0), ("UTC+2", 120), ("+14:00", 840), ("-12:00", -720),
        ("+14:15", None), ("-12:30", None), ("+99:00", None), ("+01:75", None), ("   :  ", None), ("09:00", None), ("", None),
    ],
)  # fmt: skip
def test_offsets(text: str, minutes: int | None) -> None:
    expected = None if minutes is None else timezone(timedelta(minutes=minutes))
    assert parse_offset(text) == expected


ORIGINAL = "2024:07:21 23:39:24"
EDITED = "2024:12:22 06:39:25"


@pytest.mark.parametrize(
    ("source", "offsets", "gps_time", "expected"),
    [
        (DateSource(ORIGINAL), [], None, None),
        (DateSource(ORIGINAL, offset="+02:00"), [], None, "+02:00"),
        (DateSource(ORIGINAL + "+02:00", offset="+08:00"), [], None, "+02:00"),
        (DateSource(ORIGINAL), [DateSource(EDITED, offset="+08:00")], None, None),
        (DateSource(ORIGINAL), [DateSource(ORIGINAL, offset="+08:00")], None, "+08:00"),
        (DateSource("2024-07-21T23:39:24.50"), [DateSource(ORIGINAL, offset="+08:00")], None, "+08:00"),
        (DateSource(ORIGINAL), [], "2024-07-21T21:39:24", "+02:00"),
        (DateSource(ORIGINAL), [], "2024-07-21T21:38:27", "+02:00"),
        (DateSource(ORIGINAL), [], "2024-07-21T17:54:24", "+05:45"),
        (DateSource(ORIGINAL), [], "2024-07-21T21:32:24", None),
        (DateSource(ORIGINAL), [], "2024-07-21T21:24:24", None),
        (DateSource(ORIGINAL), [], "2024-07-20T21:39:24", None),
        (DateSource(ORIGINAL, offset="-05:00"), [], "2024-07-21T21:39:24", "-05:00"),
    ],
)  # fmt: skip
def test_zones(source: DateSource, offsets: list[DateSource], gps_time: str | None, expected: str | None) -> None:
    fixed = None if gps_time is None else at(gps_time).replace(tzinfo=UTC)
    chosen = choose_capture_date([source], offsets, gps_time=fixed, now=NOW)
    assert chosen is not None
    assert chosen.has_zone == (expected is not None)
    assert chosen.moment.replace(microsecond=0).isoformat() == "2024-07-21T23:39:24" + (expected or "")


def test_a_clock_in_utc_is_a_moment_without_a_zone() -> None:
    chosen = choose_capture_date([DateSource("2024-07-21T21:39:24", is_utc=True)], now=NOW)
    assert chosen == CaptureDate(datetime(2024, 7, 21, 21, 39, 24, tzinfo=UTC), has_zone=False)


@pytest.mark.parametrize(
    "wrong", ["0000:00:00 00:00:00", "2040:02:06 06:28:15", "2116:11:28 14:26:52", "0001:01:01 00:00:00", "0001:01:03 00:00:00+01:00", "9999:12:31 23:59:59-05:00", ""]
)  # fmt: skip
def test_the_next_source_counts(wrong: str) -> None:
    chosen = choose_capture_date([DateSource(wrong), DateSource(ORIGINAL)], now=NOW)
    assert chosen is not None
    assert chosen.moment == at("2024-07-21T23:39:24")
    assert choose_capture_date([DateSource(wrong)], now=NOW) is None


def test_what_is_plausible() -> None:
    assert is_plausible(at("2026-12-01T02:00:00+14:00"), NOW)
    assert is_plausible(at("2026-12-01T11:59:59"), NOW)
    assert not is_plausible(at("2026-12-01T12:00:01"), NOW)
    assert is_plausible(at("1826-06-01T00:00:00"), NOW)
    for moment in (datetime.min, datetime.max, datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))):  # noqa: DTZ901
        assert not is_plausible(moment, NOW)
