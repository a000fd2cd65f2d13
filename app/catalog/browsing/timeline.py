"""The timeline of one owner: how many assets there are in each month, and those of one month."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, String, Uuid, func, literal, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from app.catalog.assets.asset_queries import where_trashed, where_visible
from app.catalog.database.engine import Database
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, Visibility
from app.catalog.schema.tables import UtcDateTime

_asset = tables.asset

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
        counted = select_months(owner_id, filters)
        async with self._database.read() as connection:
            rows = [(date.fromisoformat(f"{month}-01"), count) for month, count in await connection.execute(counted)]
        return sorted((row for row in rows if row[1]), reverse=not filters.ascending)

    async def iter_month(
        self, owner_id: UUID, filters: TimelineFilters, month: date
    ) -> AsyncIterator[list[TimelineAsset]]:
        """The assets of the month that `month` is in, in pages, in the order of the filters."""
        column = _sort_column(filters)
        position = tuple_(column, _asset.c.id)
        order = [each.asc() if filters.ascending else each.desc() for each in (column, _asset.c.id)]
        assets = select(*_COLUMNS).where(*_where(owner_id, filters), *_where_in_month(column, month)).order_by(*order)
        page: list[TimelineAsset] | None = None
        while page is None or len(page) == _PAGE:
            statement = assets.limit(_PAGE)
            if page:
                last = tuple_(literal(getattr(page[-1], column.name), UtcDateTime), literal(page[-1].id, Uuid))
                statement = statement.where(position > last if filters.ascending else position < last)
            async with self._database.read() as connection:
                page = [TimelineAsset(*row) for row in await connection.execute(statement)]
            yield page


def select_months(owner_id: UUID, filters: TimelineFilters) -> Select[str, int]:
    """Months, such as `2024-05`, with the number of their assets, which may be 0."""
    if filters.by_upload:  # no index has these times in their order
        month = _MonthText(_Month(_asset.c.created_at))
        return select(month.label("month"), func.count()).where(*_where(owner_id, filters)).group_by("month")
    return _select_months_in_index(owner_id, filters)


def _select_months_in_index(owner_id: UUID, filters: TimelineFilters) -> Select[str, int]:
    """Finds each month by a seek to the first asset after the month before, and counts it as a range of the index. Grouping by a text of
    each time would take three times as long."""
    column, mine = _asset.c.local_date_time, _asset.c.owner_id == owner_id
    months = select(_Month(func.min(column)).label("month")).where(mine).cte("months", recursive=True)
    following = select(_Month(func.min(column))).where(mine, column >= _MonthEnd(months.c.month)).scalar_subquery()
    months = months.union_all(select(following).where(months.c.month.is_not(None)))
    in_month = (column >= _MonthStart(months.c.month)) & (column < _MonthEnd(months.c.month))
    count = select(func.count()).select_from(_asset).where(in_month, *_where(owner_id, filters)).scalar_subquery()
    return select(_MonthText(months.c.month), count).where(months.c.month.is_not(None))


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


class _MonthFunction(FunctionElement[Any]):
    """An expression of one argument. `sqlite` and `postgresql` are its SQL. SQLite stores times as texts, such as `2024-05-01 12:00:00.000000`,
    so a month is the text `2024-05` there; in PostgreSQL it is the time at which it begins, in UTC."""

    type = NullType()
    inherit_cache = True
    sqlite: ClassVar[str]
    postgresql: ClassVar[str]


class _Month(_MonthFunction):
    """The month of a time."""

    inherit_cache = True
    sqlite = "substr({}, 1, 7)"
    postgresql = "date_trunc('month', {} AT TIME ZONE 'UTC')"


class _MonthStart(_MonthFunction):
    """The first time of a month."""

    inherit_cache = True
    sqlite = "{} || '-01'"
    postgresql = "{} AT TIME ZONE 'UTC'"


class _MonthEnd(_MonthFunction):
    """Later than all times of a month, and not later than the first time of the next one, which may be in the year 10,000."""

    inherit_cache = True
    sqlite = "{} || '-32'"
    postgresql = "({} + interval '1 month') AT TIME ZONE 'UTC'"


class _MonthText(_MonthFunction):
    """A month as `2024-05`."""

    type = String()
    inherit_cache = True
    sqlite = "{}"
    postgresql = "to_char({}, 'YYYY-MM')"


@compiles(_MonthFunction, "sqlite")
def _for_sqlite(element: _MonthFunction, compiler: Any, **options: Any) -> str:
    return f"({element.sqlite.format(compiler.process(element.clauses, **options))})"


@compiles(_MonthFunction, "postgresql")
def _for_postgresql(element: _MonthFunction, compiler: Any, **options: Any) -> str:
    return f"({element.postgresql.format(compiler.process(element.clauses, **options))})"
