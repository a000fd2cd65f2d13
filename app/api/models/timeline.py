"""Models of the timeline: months with counts, and the assets of a month as columns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from app.api.models.base_model import (
    ApiModel,
    RequestModel,
    encode_base64,
    format_timestamp,
    is_absent,
    validation_error,
)
from app.api.models.search import Order
from app.catalog.browsing.timeline import TimelineAsset, TimelineFilters
from app.catalog.schema.records import AssetType, Visibility

_HOUR = timedelta(hours=1)


class TimelineOrder(StrEnum):
    TAKEN_AT = "takenAt"
    CREATED_AT = "createdAt"


def _validate_month(text: str) -> str:
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        raise validation_error("is no date") from None
    return text


class TimelineQuery(RequestModel):
    """The conditions of a timeline, in the address."""

    user_id: UUID | None = Field(default=None, description="You.")
    album_id: UUID | None = Field(default=None, description="404: there are no albums here.")
    person_id: UUID | None = Field(default=None, description="404: no faces are looked for.")
    tag_id: UUID | None = Field(default=None, description="404: there are no tags here.")
    is_favorite: bool | None = None
    is_trashed: bool = False
    visibility: Visibility | None = Field(default=None, description="Otherwise timeline and archive.")
    order: Order = Order.DESC
    order_by: TimelineOrder = TimelineOrder.TAKEN_AT
    with_stacked: bool = Field(default=False, description="Without effect but for the column `stack`.")
    with_partners: bool = Field(default=False, description="Without effect: there are no partners.")

    def to_filters(self) -> TimelineFilters:
        return TimelineFilters(
            trashed=self.is_trashed,
            visibility=self.visibility,
            is_favorite=self.is_favorite,
            by_upload=self.order_by is TimelineOrder.CREATED_AT,
            ascending=self.order is Order.ASC,
        )


class TimelineBucketQuery(TimelineQuery):
    time_bucket: Annotated[str, Field(max_length=40), AfterValidator(_validate_month)] = Field(
        description="A day of the month, such as 2024-05-01.", examples=["2024-05-01"]
    )
    with_coordinates: bool = False

    @property
    def month(self) -> date:
        return date.fromisoformat(self.time_bucket[:10])


class TimelineBucket(ApiModel):
    """A month, by its first day, and how many assets there are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"timeBucket": "2024-05-01", "count": 17}]})

    time_bucket: date
    count: int


class TimelineColumns(ApiModel):
    """One list for each field, all in the order of the assets. `localOffsetHours`: hours from UTC to the local time; `duration`:
    milliseconds; `ratio`: width by height."""

    id: list[UUID]
    owner_id: list[UUID]
    is_image: list[bool]
    is_favorite: list[bool]
    is_trashed: list[bool]
    visibility: list[Visibility]
    ratio: list[float]
    thumbhash: list[str | None]
    file_created_at: list[str]
    created_at: list[str]
    local_offset_hours: list[float]
    duration: list[int | None]
    live_photo_video_id: list[UUID | None]
    projection_type: list[str | None]
    city: list[str | None]
    country: list[str | None]
    latitude: list[float | None] | None = Field(default=None, exclude_if=is_absent)
    longitude: list[float | None] | None = Field(default=None, exclude_if=is_absent)
    stack: list[None] | None = Field(default=None, exclude_if=is_absent)


class TimelineColumnsBuilder:
    """Collects `TimelineColumns` page by page. They are lists of plain values: a month may have 100,000 assets, and a model would check
    each."""

    def __init__(self, *, with_coordinates: bool, with_stacked: bool) -> None:
        optional = {"latitude": with_coordinates, "longitude": with_coordinates, "stack": with_stacked}
        self.columns: dict[str, list[Any]] = {
            field.alias or name: [] for name, field in TimelineColumns.model_fields.items() if optional.get(name, True)
        }

    def add(self, assets: Iterable[TimelineAsset]) -> Self:
        rows = [_build_row(asset) for asset in assets]
        for name, column in self.columns.items():
            column += [row[name] for row in rows]
        return self


def _build_row(asset: TimelineAsset) -> dict[str, Any]:
    return {
        "id": str(asset.id),
        "ownerId": str(asset.owner_id),
        "isImage": asset.type is AssetType.IMAGE,
        "isFavorite": asset.is_favorite,
        "isTrashed": asset.deleted_at is not None,
        "visibility": asset.visibility.value,
        "ratio": round(asset.width / asset.height, 3) if asset.width and asset.height else 1,
        "thumbhash": encode_base64(asset.thumbhash) if asset.thumbhash else None,
        "fileCreatedAt": format_timestamp(asset.file_created_at),
        "createdAt": format_timestamp(asset.created_at),
        "localOffsetHours": (asset.local_date_time - asset.file_created_at) / _HOUR,
        "duration": asset.duration,
        "livePhotoVideoId": None if asset.live_photo_video_id is None else str(asset.live_photo_video_id),
        "projectionType": asset.projection_type,
        "city": asset.city,
        "country": asset.country,
        "latitude": asset.latitude,
        "longitude": asset.longitude,
        "stack": None,
    }
