"""`MediaMetadata`: the metadata of an original as one typed value, stored in the catalogue as JSON.

The JSON names are those of Immich's `exifInfo`, so the stored value is what clients see.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Self

_IRREGULAR_NAMES = {"live_photo_cid": "livePhotoCID"}


def _camel(name: str) -> str:
    if name in _IRREGULAR_NAMES:
        return _IRREGULAR_NAMES[name]
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


@dataclass(frozen=True, slots=True)
class MediaMetadata:
    """Fields are None if the file does not contain them. `exposure_time` in seconds, as text (`1/250`, `2.5`); `focal_length` in millimetres;
    `date_time_original` and `modify_date` are aware if the file gives a zone or an offset, else naive local time; `time_zone` is `UTC`,
    `UTC+2`, `UTC-3:30`; `latitude` and `longitude` in degrees, WGS 84, south and west negative; `rating` -1 (rejected) to 5; `orientation` is
    EXIF's 1 to 8 as text, as in Immich; `fps` in frames per second; `live_photo_cid` is Apple's identifier that a
    live photo and its video share."""

    make: str | None = None
    model: str | None = None
    lens_model: str | None = None
    exposure_time: str | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length: float | None = None
    date_time_original: datetime | None = None
    modify_date: datetime | None = None
    time_zone: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    rating: int | None = None
    description: str | None = None
    orientation: str | None = None
    projection_type: str | None = None
    exif_image_width: int | None = None
    exif_image_height: int | None = None
    fps: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    live_photo_cid: str | None = None

    @property
    def taken_at(self) -> datetime | None:
        """Capture time: aware if the zone is known, else naive local time."""
        return self.date_time_original

    def to_json(self) -> dict[str, Any]:
        """Fields that are not None, with Immich's names; times in ISO 8601."""
        known = {_camel(field.name): getattr(self, field.name) for field in fields(self)}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in known.items()
            if value is not None
        }

    @classmethod
    def from_json(cls, known: dict[str, Any]) -> Self:
        """The reverse of `to_json`. Unknown names are ignored. Raises `ValueError` for an invalid time."""
        values: dict[str, Any] = {field.name: known.get(_camel(field.name)) for field in fields(cls)}
        for name in ("date_time_original", "modify_date"):
            if values[name] is not None:
                values[name] = datetime.fromisoformat(values[name])
        return cls(**values)


def format_zone(moment: datetime | None) -> str | None:
    """`UTC`, `UTC+2`, `UTC-3:30`, as Immich writes it; None for a naive time."""
    offset = moment.utcoffset() if moment is not None else None
    if offset is None:
        return None
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    sign = "-" if offset < timedelta(0) else "+"
    return "UTC" + (f"{sign}{hours}" + (f":{minutes:02}" if minutes else "") if offset else "")


def clean_text(value: str, max_length: int = 20_000) -> str | None:
    """Strip control characters and white space around; None for an empty text."""
    kept = "".join(letter for letter in value[:max_length] if letter.isprintable() or letter in "\n\t")
    return kept.strip() or None
