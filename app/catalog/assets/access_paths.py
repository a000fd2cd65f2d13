"""Chooses the indexes by which a search finds its assets, where the database cannot choose well."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import FromClause
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.assets.exif_indexes import ResultOrder, choose_exif_fields, read_by_exif_index
from app.catalog.assets.name_index import find_candidates, join_candidates
from app.catalog.schema import tables
from app.catalog.schema.records import AssetFilters


@dataclass(frozen=True, slots=True)
class AccessPath:
    """How a search finds its assets: where it reads them from, and the fields of `exif_indexes` that it may look them up by."""

    source: FromClause
    exif_fields: Collection[str]


async def choose_access_path(
    connection: AsyncConnection, owner_id: UUID, filters: AssetFilters, order: ResultOrder
) -> AccessPath:
    candidates = await find_candidates(connection, filters)
    if candidates is not None:
        return AccessPath(join_candidates(candidates), ())
    fields = await choose_exif_fields(connection, owner_id, filters, order)
    if connection.dialect.name != "sqlite" or not fields:
        return AccessPath(tables.asset, fields)
    return AccessPath(read_by_exif_index(*fields), fields)
