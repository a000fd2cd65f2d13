"""`MediaMetadata` as JSON."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from app.media.metadata.media_metadata import MediaMetadata, format_zone


def test_json_has_immichs_names_and_comes_back() -> None:
    taken = datetime(2024, 5, 31, 18, 30, 15, 250_000, tzinfo=timezone(timedelta(hours=2)))
    metadata = MediaMetadata(make="M", f_number=1.8, date_time_original=taken, time_zone="UTC+2", live_photo_cid="A-B")
    stored = metadata.to_json()
    assert stored == {
        "make": "M",
        "fNumber": 1.8,
        "dateTimeOriginal": "2024-05-31T18:30:15.250000+02:00",
        "timeZone": "UTC+2",
        "livePhotoCID": "A-B",
    }
    assert MediaMetadata.from_json(json.loads(json.dumps(stored))) == metadata


@pytest.mark.parametrize(
    ("offset", "name"),
    [
        (timedelta(0), "UTC"),
        (timedelta(hours=2), "UTC+2"),
        (-timedelta(hours=3, minutes=30), "UTC-3:30"),
        (timedelta(hours=5, minutes=45), "UTC+5:45"),
    ],
)
def test_zones(offset: timedelta, name: str) -> None:
    assert format_zone(datetime(2024, 1, 1, tzinfo=timezone(offset))) == name
