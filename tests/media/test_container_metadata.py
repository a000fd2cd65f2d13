"""Dates, places and cameras by the tags of videos, as tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats.signatures import DetectedFormat
from app.media.video.container_metadata import extract_video_metadata, parse_iso_6709
from app.media.video.probe_output import ProbedVideo, parse_probe

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
GOOD = "2016-11-28T13:26:52.000000Z"
RIGHT = datetime(2016, 11, 28, 13, 26, 52, tzinfo=UTC)
KEY = "com.apple.quicktime.creationdate"


def probed(
    container: dict[str, str], video: dict[str, str] | None = None, sound: dict[str, str] | None = None
) -> ProbedVideo:
    picture = {
        "index": 0,
        "codec_type": "video",
        "codec_name": "h264",
        "width": 640,
        "height": 480,
        "tags": video or {},
    }
    heard = {"index": 1, "codec_type": "audio", "codec_name": "aac", "tags": sound or {}}
    output = json.dumps({"streams": [picture, heard], "format": {"tags": container}})
    return parse_probe(output, DetectedFormat.MOV, frozenset({"h264", "aac"}))


@pytest.mark.parametrize(
    ("container", "video", "sound", "expected"),
    [
        ({"creation_time": GOOD}, None, None, RIGHT),
        ({"creation_time": "2040-02-06T06:28:15.000000Z"}, GOOD, None, RIGHT),
        ({"creation_time": "1904-01-01T00:00:00.000000Z"}, GOOD, None, RIGHT),
        ({"creation_time": "1970-01-01T00:00:00.000000Z"}, GOOD, None, RIGHT),
        ({}, None, GOOD, RIGHT),
        ({"creation_time": "2040-02-06T06:28:15Z"}, "2040-02-06T06:28:15Z", "2040-02-06T06:28:15Z", None),
        ({"creation_time": "0000-00-00T00:00:00Z"}, "12345-01-01T00:00:00Z", "not a date", None),
        ({"creation_time": "0001-01-01T00:00:00+01:00"}, "9999-12-31T23:59:59-01:00", None, None),
        ({KEY: "2116-11-28T14:26:52+0100", "creation_time": GOOD}, None, None, RIGHT),
        ({KEY: "", "creation_time": GOOD}, None, None, RIGHT),
        ({KEY: "2024-05-31T18:30:15+0200", "creation_time": GOOD}, None, None, datetime(2024, 5, 31, 16, 30, 15, tzinfo=UTC)),
        ({KEY: "1970-01-01T01:00:00+0100", "creation_time": GOOD}, None, None, RIGHT),
        ({"date": "2016-11-28T14:26:52+0100"}, None, None, RIGHT),
        ({"date": "2016"}, None, None, None),
        ({"date": "2016-11-28"}, None, None, None),
        ({"creation_time": GOOD, "date": "2009-05-19T07:00:00Z"}, None, None, RIGHT),
        ({"creation_time": (NOW + timedelta(hours=23)).isoformat()}, GOOD, None, NOW + timedelta(hours=23)),
        ({"creation_time": (NOW + timedelta(hours=25)).isoformat()}, GOOD, None, RIGHT),
    ],
)  # fmt: skip
def test_the_first_date_that_is_possible(
    container: dict[str, str], video: str | None, sound: str | None, expected: datetime | None
) -> None:
    tagged = [None if value is None else {"creation_time": value} for value in (video, sound)]
    assert extract_video_metadata(probed(container, *tagged), NOW).date_time_original == expected


@pytest.mark.parametrize(
    ("value", "expected", "zone"),
    [
        ("2024-05-31T18:30:15+0200", datetime(2024, 5, 31, 18, 30, 15, tzinfo=timezone(timedelta(hours=2))), "UTC+2"),
        ("2024-05-31T18:30:15-03:30", datetime(2024, 5, 31, 18, 30, 15, tzinfo=timezone(-timedelta(hours=3.5))), "UTC-3:30"),
        ("2024-05-31T18:30:15Z", datetime(2024, 5, 31, 18, 30, 15, tzinfo=UTC), "UTC"),
        ("2024-05-31 18:30:15", datetime.fromisoformat("2024-05-31T18:30:15"), None),
        ("2024:05:31 18:30:15", datetime.fromisoformat("2024-05-31T18:30:15"), None),
    ],
)  # fmt: skip
def test_zones(value: str, expected: datetime, zone: str | None) -> None:
    metadata = extract_video_metadata(probed({KEY: value}), NOW)
    assert metadata.date_time_original == expected
    assert metadata.time_zone == zone


def test_the_clock_of_quicktime_tells_no_zone() -> None:
    metadata = extract_video_metadata(probed({"creation_time": GOOD}), NOW)
    assert (metadata.date_time_original, metadata.time_zone) == (RIGHT, None)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_is_an_error(date: str, position: str) -> None:
    tags = {KEY: date, "creation_time": date, "date": date, "location": position}
    taken = extract_video_metadata(probed(tags), NOW).date_time_original
    assert taken is None or 1970 <= taken.year <= 2026


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("+52.5186+013.3763+034.000/", (52.5186, 13.3763)),
        ("-33.8568+151.2153/", (-33.8568, 151.2153)),
        ("+5231.116+01322.578/", (52.5186, 13.3763)),
        ("+523106.96+0132234.68/", (52.5186, 13.3763)),
        ("-0.5-0.25/", (-0.5, -0.25)),
        ("+00.0000+000.0000/", None),
        ("+91.0+000.5/", None),
        ("+10.0+181.0/", None),
        ("52.5, 13.4", None),
        ("", None),
    ],
)
def test_positions(value: str, expected: tuple[float, float] | None) -> None:
    assert parse_iso_6709(value) == (None if expected is None else pytest.approx(expected, abs=1e-5))


def test_what_an_iphone_writes() -> None:
    tags = {
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 15 Pro",
        "com.apple.quicktime.content.identifier": "8D1B2F6E-0000-4F4E-9E3C-1B2C3D4E5F60",
        "com.apple.quicktime.location.ISO6709": "+52.5186+013.3763+034.000/",
    }
    video = {"com.apple.quicktime.camera.lens_model": "iPhone 15 Pro back camera 6.86mm f/1.78"}
    metadata = extract_video_metadata(probed(tags, video), NOW)
    assert (metadata.make, metadata.model) == ("Apple", "iPhone 15 Pro")
    assert metadata.lens_model == "iPhone 15 Pro back camera 6.86mm f/1.78"
    assert metadata.live_photo_cid == "8D1B2F6E-0000-4F4E-9E3C-1B2C3D4E5F60"
    assert (metadata.latitude, metadata.longitude) == (52.5186, 13.3763)


def test_what_android_writes() -> None:
    tags = {"com.android.manufacturer": "Google", "com.android.model": "Pixel 8", "location": "+52.5186+013.3763/"}
    metadata = extract_video_metadata(probed(tags), NOW)
    assert (metadata.make, metadata.model, metadata.latitude) == ("Google", "Pixel 8", 52.5186)
