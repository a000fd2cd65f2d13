"""Maps the tags that cameras and phones write into videos, as ffprobe tells them, to `MediaMetadata`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from app.media.metadata.dates import parse_date
from app.media.metadata.media_metadata import MediaMetadata, clean_text, format_zone
from app.media.video.probe_output import ProbedVideo

_QUICKTIME = "com.apple.quicktime."
_MAKE = (f"{_QUICKTIME}make", "com.android.manufacturer", "make")
_MODEL = (f"{_QUICKTIME}model", "com.android.model", "model")
_LENS = (f"{_QUICKTIME}camera.lens_model",)
_POSITION = (f"{_QUICKTIME}location.iso6709", "location", "location-eng")
_DESCRIPTION = (f"{_QUICKTIME}description", "description", "comment")
_LIVE_PHOTO = (f"{_QUICKTIME}content.identifier",)
"""Each the names of tags, in order of precedence: QuickTime's keys before plain ones."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_ORIENTATION_OF_ROTATION = {0: "1", 90: "6", 180: "3", 270: "8"}


def extract_video_metadata(video: ProbedVideo, now: datetime) -> MediaMetadata:
    """`now` is the current time: dates after tomorrow are wrong."""
    tags = video.tags
    taken, zone = _find_capture_time(video, now)
    position = parse_iso_6709(_first(tags, _POSITION) or "")
    latitude, longitude = position or (None, None)
    return MediaMetadata(
        make=clean_text(_first(tags, _MAKE) or ""),
        model=clean_text(_first(tags, _MODEL) or ""),
        lens_model=clean_text(_first(tags, _LENS) or ""),
        date_time_original=taken,
        time_zone=zone,
        latitude=latitude,
        longitude=longitude,
        description=clean_text(_first(tags, _DESCRIPTION) or ""),
        orientation=_ORIENTATION_OF_ROTATION[video.video_stream.rotation],
        exif_image_width=video.video_stream.width,
        exif_image_height=video.video_stream.height,
        fps=video.video_stream.fps,
        video_codec=video.video_stream.codec,
        audio_codec=video.audio_stream.codec if video.audio_stream else None,
        live_photo_cid=clean_text(_first(tags, _LIVE_PHOTO) or ""),
    )


def _find_capture_time(video: ProbedVideo, now: datetime) -> tuple[datetime | None, str | None]:
    """The first date that is possible: after 1970 began (0 means unknown, in QuickTime 1904), and no later than tomorrow; and its zone."""
    for value, tells_zone in _list_dates(video):
        moment = parse_date(value)
        if moment is not None and _EPOCH < (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) <= now + _DAY:
            return moment, format_zone(moment) if tells_zone else None
    return None, None


def _list_dates(video: ProbedVideo) -> Iterator[tuple[str, bool]]:
    """By precedence: Apple's key; `mvhd` (Matroska's DateUTC, AVI's IDIT); `mdhd` of each track; `©day` if it is more than a day. Each with
    whether it tells the zone: clocks of QuickTime and Matroska are UTC everywhere."""
    yield video.tags.get(f"{_QUICKTIME}creationdate", ""), True
    for value in video.creation_times:
        yield value, False
    day = video.tags.get("date", "")
    if ":" in day[10:]:
        yield day, True


def parse_iso_6709(value: str) -> tuple[float, float] | None:
    """Latitude and longitude in ISO 6709: degrees (`+52.5186+013.3763+034.000/`), degrees and minutes (`+5231.1+01322.6/`), or degrees,
    minutes and seconds. None for the point 0, 0, which many programs write for unknown."""
    matched = re.match(r"([+-]\d{1,6}(?:\.\d+)?)([+-]\d{1,7}(?:\.\d+)?)", value)
    if matched is None:
        return None
    latitude, longitude = _parse_degrees(matched[1], 2), _parse_degrees(matched[2], 3)
    if abs(latitude) > 90 or abs(longitude) > 180 or latitude == longitude == 0:
        return None
    return latitude, longitude


def _parse_degrees(value: str, digits: int) -> float:
    """Of a number whose degrees have up to `digits` digits; minutes and seconds have two each."""
    sign, number = value[0], value[1:]
    whole, point, fraction = number.partition(".")
    parts: list[str] = []
    while len(whole) > digits and len(parts) < 2:
        parts.insert(0, whole[-2:])
        whole = whole[:-2]
    values = [float(part) for part in (whole, *parts)]
    values[-1] += float(f"0{point}{fraction}")
    degrees = sum(part / 60**place for place, part in enumerate(values))
    return -degrees if sign == "-" else degrees


def _first(tags: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((tags[name] for name in names if tags.get(name, "").strip()), None)
