"""Models of requests that change one asset or many."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from app.api.models.assets import MAX_IDS
from app.api.models.base_model import RequestModel, StorableText, normalize_timestamp, refuse_numbers, validation_error
from app.catalog.assets.date_edits import DateEdit, parse_zone
from app.catalog.schema.records import AssetChanges, Visibility
from app.media.metadata.media_metadata import format_zone

_EXIF_FIELDS = ("description", "rating", "latitude", "longitude")
_MAX_MINUTES = 10_000 * 366 * 24 * 60


def _validate_date(moment: datetime) -> datetime:
    """Keeps what the client sent, with a time zone or without one."""
    normalize_timestamp(moment)
    return moment


def _validate_zone(name: str) -> str:
    if parse_zone(name) is None:
        raise validation_error("is no time zone")
    return name


class AssetEdit(RequestModel):
    """Only what is given changes."""

    is_favorite: bool | None = None
    visibility: Visibility | None = None
    date_time_original: Annotated[datetime, BeforeValidator(refuse_numbers), AfterValidator(_validate_date)] | None = (
        Field(
            default=None,
            description="When it was taken. An offset or `Z` also sets the time zone; without one it is UTC, and the time zone stays.",
        )
    )
    description: StorableText | None = Field(default=None, max_length=20_000)
    rating: int | None = Field(default=None, ge=-1, le=5)
    latitude: float | None = Field(default=None, ge=-90, le=90, description="Together with the longitude.")
    longitude: float | None = Field(default=None, ge=-180, le=180)

    @model_validator(mode="after")
    def _require_whole_position(self) -> Self:
        if len({"latitude", "longitude"} & self.model_fields_set) == 1 or (self.latitude is None) != (
            self.longitude is None
        ):
            raise validation_error("latitude and longitude are given together")
        return self

    def to_changes(self) -> AssetChanges:
        """The changes for the catalogue, but for the date; fields that the client did not send stay unchanged."""
        changes = AssetChanges()
        if self.is_favorite is not None:
            changes["is_favorite"] = self.is_favorite
        if self.visibility is not None:
            changes["visibility"] = self.visibility
        exif = {to_camel(name): getattr(self, name) for name in _EXIF_FIELDS if name in self.model_fields_set}
        if exif:
            changes["exif"] = exif
        return changes

    def to_date_edit(self) -> DateEdit | None:
        moment = self.date_time_original
        return None if moment is None else DateEdit(taken_at=normalize_timestamp(moment), zone=format_zone(moment))


class AssetUpdate(AssetEdit):
    model_config = ConfigDict(json_schema_extra={"examples": [{"isFavorite": True, "visibility": "archive"}]})

    live_photo_video_id: UUID | None = None

    def to_changes(self) -> AssetChanges:
        changes = super().to_changes()
        if "live_photo_video_id" in self.model_fields_set:
            changes["live_photo_video_id"] = self.live_photo_video_id
        return changes


class BulkUpdate(AssetEdit):
    """The changes of all these assets."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"ids": ["6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d"], "dateTimeRelative": 60, "isFavorite": True}]
        }
    )

    ids: Annotated[list[UUID], Field(max_length=MAX_IDS), AfterValidator(lambda ids: list(dict.fromkeys(ids)))]
    date_time_relative: int | None = Field(
        default=None, ge=-_MAX_MINUTES, le=_MAX_MINUTES, description="Minutes by which the time it was taken is moved."
    )
    time_zone: Annotated[StorableText, Field(max_length=100), AfterValidator(_validate_zone)] | None = Field(
        default=None,
        description="An IANA name, or `UTC+2`. The moment stays; a `dateTimeOriginal` without an offset is a time of this zone.",
    )

    def to_date_edit(self) -> DateEdit | None:
        moment, zone = self.date_time_original, None if self.time_zone is None else parse_zone(self.time_zone)
        if moment is None and not self.date_time_relative and zone is None:
            return None
        if moment is not None and moment.tzinfo is None and zone is not None:
            taken_at = moment.replace(tzinfo=zone)
        else:
            taken_at = None if moment is None else normalize_timestamp(moment)
        return DateEdit(
            taken_at, timedelta(minutes=self.date_time_relative or 0), self.time_zone or format_zone(moment)
        )
