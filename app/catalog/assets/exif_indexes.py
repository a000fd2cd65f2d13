"""The indexes by which searches find EXIF values: one for each field that can be searched for, by owner, value and date.

Revision 0025 makes them on SQLite, which has no statistics: `choose_exif_fields` chooses the index. On PostgreSQL `ExifIndexRepository.update` makes
them, beside the work of all others, and the planner chooses. Until then, a search reads all of the user's assets. They are not partial, though many
assets lack a value: the planner uses no statistics of a partial index, and assets without a value are searched for, too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Join, String, bindparam, func, literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles

from app.catalog.database.concurrent_indexes import build_index, find_index_validity
from app.catalog.database.engine import Database
from app.catalog.database.error_translation import translate_database_error
from app.catalog.database.locations import PostgresLocation
from app.catalog.schema import tables
from app.catalog.schema.column_types import Text, replace_unstorable
from app.catalog.schema.records import AssetFilters, SortKey

INDEXES = {
    "make": "ix_asset_exif_make",
    "model": "ix_asset_exif_model",
    "lensModel": "ix_asset_exif_lens_model",
    "city": "ix_asset_exif_city",
    "state": "ix_asset_exif_state",
    "country": "ix_asset_exif_country",
    "rating": "ix_asset_exif_rating",
}
"""By EXIF field."""
MOST_MATCHES = 20_000
"""Of a value. Where there are more, a page in an order that is not the index's is filled sooner by reading the assets in that order."""

ExifValue = str | int | None
ResultOrder = SortKey | Literal["id"] | None
"""None: the result has no order."""

_PREFIX = 100
"""Letters of a value that are in the index. PostgreSQL refuses a row whose value is too long for one."""
_ADVISORY_LOCK = 0x6D656469_65786966
_asset = tables.asset


async def choose_exif_fields(
    connection: AsyncConnection, owner_id: UUID, filters: AssetFilters, order: ResultOrder
) -> Collection[str]:
    """The EXIF fields that assets may be looked up by: on SQLite the one whose value is rarest, or none."""
    values = {name: value for name, value in filters.exif.items() if name in INDEXES}
    if connection.dialect.name != "sqlite" or not values:
        return values
    if filters.ids is not None or filters.checksum is not None:
        return ()  # which have better indexes
    has_other_index = order in (SortKey.LOCAL_DATE_TIME, "id")
    if len(values) == 1 and not has_other_index:
        return values
    counts = {name: await _count_matches(connection, owner_id, name, value) for name, value in values.items()}
    rarest = min(counts, key=lambda name: counts[name])
    return () if has_other_index and counts[rarest] > MOST_MATCHES else (rarest,)


async def _count_matches(connection: AsyncConnection, owner_id: UUID, name: str, value: ExifValue) -> int:
    matches = select(_asset.c.owner_id).where(_asset.c.owner_id == owner_id, where_in_exif_index(name, value))
    matches = matches.select_from(read_by_exif_index(name))
    counted = select(func.count()).select_from(matches.limit(MOST_MATCHES + 1).subquery())
    return (await connection.execute(counted)).scalar_one()


def where_in_exif_index(name: str, value: ExifValue) -> ColumnElement[bool]:
    """Whether the EXIF value begins as `value` does; None: there is none. The text is written into the statement: PostgreSQL prepares a statement
    that is repeated, and would plan it once for rare and common values."""
    if value is None:
        return _ExifPrefix(name).is_(None)
    prefix = bindparam(None, replace_unstorable(str(value))[:_PREFIX], Text, literal_execute=True)
    return _ExifPrefix(name) == prefix


def is_whole_in_exif_index(value: ExifValue) -> bool:
    """Whether only this value begins as `value` does, as far as the index has it."""
    return len(str(value)) < _PREFIX


def read_by_exif_index(name: str) -> FromClause:
    """The assets, which SQLite looks up by this field's index: without statistics it would choose one that has the result's order."""
    unused = select(literal(1)).subquery("unused")
    return _IndexedAsset(unused, tables.asset, text(INDEXES[name]))


class _IndexedAsset(Join):
    """`asset INDEXED BY …`, for which SQLAlchemy has nothing: `onclause` is the index, and there is no left side."""

    inherit_cache = True


@compiles(_IndexedAsset)
def _compile_indexed_asset(join: _IndexedAsset, compiler: Any, **options: Any) -> str:
    options |= {"asfrom": True, "from_linter": None}
    return f"{compiler.process(join.right, **options)} INDEXED BY {compiler.process(join.onclause)}"


class _ExifPrefix(ColumnElement[str]):
    """As in the definition of the index, and so without parameters."""

    inherit_cache = False
    type = String()

    def __init__(self, name: str) -> None:
        self.name = name


@compiles(_ExifPrefix, "sqlite")
def _compile_for_sqlite(element: _ExifPrefix, _compiler: Any, **_options: Any) -> str:
    return f"substr(json_extract(asset.exif, '$.{element.name}'), 1, {_PREFIX})"


@compiles(_ExifPrefix, "postgresql")
def _compile_for_postgresql(element: _ExifPrefix, _compiler: Any, **_options: Any) -> str:
    return f"substr(asset.exif ->> '{element.name}', 1, {_PREFIX})"


class ExifIndexRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def update(self) -> None:
        """Make the indexes that are missing. May be killed at any point, and run in several processes at once. Raises `CatalogError`."""
        if not isinstance(self._database.location, PostgresLocation):
            return
        async with self._database.read() as connection:
            if all([await find_index_validity(connection, index) for index in INDEXES.values()]):
                return
        try:
            async with self._database.dedicated_connection() as connection:
                locked = await connection.execute(text(f"SELECT pg_try_advisory_lock({_ADVISORY_LOCK})"))
                if not locked.scalar_one():
                    return  # a process that was killed may still be waited for by its server
                for name, index in INDEXES.items():
                    value = f"substr(exif ->> '{name}', 1, {_PREFIX})"
                    await build_index(connection, index, f"asset (owner_id, ({value}), file_created_at)")
        except DBAPIError as error:
            raise translate_database_error(error) from error
