"""The timeline of one owner: how many assets there are in each month, and those of one month."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select

from app.catalog.assets.asset_queries import where_trashed, where_visible
from app.catalog.counts.counts import where_counted
from app.catalog.database.engine import Database
from app.catalog.database.month_functions import Month, MonthText
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, Visibility

_asset = tables.asset
_asset_count = tables.asset_count

_PAGE = 1000
_EXIF_FIELDS = {"city": "city", "country": "country", "projection_type": "projectionType"}
_POSITION_FIELDS = ("latitude", "longitude")


@dataclass(frozen=True, slots=True)
class TimelineFilters:
    """`visibility` None: timeline and archive. `by_upload`: months of the upload in place of those when it was taken."""

    trashed: bool = False
    visibility: Visibility | None = None
    is_favorite: bool | None = None
    by_upload: bool = False
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class TimelineAsset:
    """What a timeline shows of an asset."""

    id: UUID
    owner_id: UUID
    type: AssetType
    visibility: Visibility
    is_favorite: bool
    deleted_at: datetime | None
    duration: int | None
    live_photo_video_id: UUID | None
    local_date_time: datetime
    file_created_at: datetime
    created_at: datetime
    thumbhash: bytes | None
    width: int | None
    height: int | None
    city: str | None
    country: str | None
    projection_type: str | None
    latitude: float | None
    longitude: float | None


_COLUMN_NAMES = tuple(name for name in TimelineAsset.__dataclass_fields__ if name in _asset.c)
_COLUMNS = (
    *(_asset.c[name] for name in _COLUMN_NAMES),
    *(_asset.c.exif[name].as_string() for name in _EXIF_FIELDS.values()),
    *(_asset.c.exif[name].as_float() for name in _POSITION_FIELDS),
)


class TimelineRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_by_month(self, owner_id: UUID, filters: TimelineFilters) -> list[tuple[date, int]]:
        """The first day of each month that has assets, and how many; in the order of the filters."""
        counted = (
            _select_months_of_upload(owner_id, filters) if filters.by_upload else _select_months(owner_id, filters)
        )
        async with self._database.read() as connection:
            rows = [
                (date.fromisoformat(f"{month}-01"), int(total)) for month, total in await connection.execute(counted)
            ]
        return sorted((row for row in rows if row[1]), reverse=not filters.ascending)

    async def iter_month(
        self, owner_id: UUID, filters: TimelineFilters, month: date
    ) -> AsyncGenerator[list[TimelineAsset]]:
        """The assets of the month that `month` is in, in the order of the filters. One query; its rows become records a page at a time, because
        the event loop has other work, too."""
        column = _sort_column(filters)
        order = [each.asc() if filters.ascending else each.desc() for each in (column, _asset.c.id)]
        assets = select(*_COLUMNS).where(*_where(owner_id, filters), *_where_in_month(column, month)).order_by(*order)
        async with self._database.read() as connection:
            rows = (await connection.execute(assets)).all()
        for start in range(0, len(rows), _PAGE):
            yield [TimelineAsset(*row) for row in rows[start : start + _PAGE]]
            await asyncio.sleep(0)


def _select_months(owner_id: UUID, filters: TimelineFilters) -> Select[str, int]:
    """Months, such as `2024-05`, with the number of their assets, which may be 0."""
    where = where_counted(
        owner_id, trashed=filters.trashed, visibility=filters.visibility, is_favorite=filters.is_favorite
    )
    month = _asset_count.c.month
    return select(month, func.sum(_asset_count.c.assets)).where(*where).group_by(month)


def _select_months_of_upload(owner_id: UUID, filters: TimelineFilters) -> Select[str, int]:
    """The same by the time of the upload, which no kept count has."""
    month = MonthText(Month(_asset.c.created_at))
    return select(month.label("month"), func.count()).where(*_where(owner_id, filters)).group_by("month")


def _sort_column(filters: TimelineFilters) -> ColumnElement[Any]:
    return _asset.c.created_at if filters.by_upload else _asset.c.local_date_time


def _where(owner_id: UUID, filters: TimelineFilters) -> list[ColumnElement[bool]]:
    where = [_asset.c.owner_id == owner_id, where_visible(filters.visibility), where_trashed(filters.trashed)]
    if filters.is_favorite is not None:
        where.append(_asset.c.is_favorite == filters.is_favorite)
    return where


def _where_in_month(column: ColumnElement[Any], month: date) -> list[ColumnElement[bool]]:
    start = datetime(month.year, month.month, 1, tzinfo=UTC)
    where = [column >= start]
    if (month.year, month.month) != (9999, 12):
        following = start.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
        where.append(column < following)
    return where
