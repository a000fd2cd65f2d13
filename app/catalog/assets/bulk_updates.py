"""Changes of many assets at once, and the emptying of a trash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets.asset_removal import remove_assets
from app.catalog.assets.date_edits import DateEdit, compute_dates
from app.catalog.assets.exif_edits import merge_edits
from app.catalog.assets.ownership import check_owned
from app.catalog.database.engine import Database, now
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import AssetChanges, Visibility

IDS_AT_ONCE = 50_000
"""Of a trash: finding them may read all of the owner's assets, so they are found together."""
REMOVED_AT_ONCE = 500

_asset = tables.asset


class BulkUpdateRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def update(
        self, owner_id: UUID, asset_ids: Sequence[UUID], changes: AssetChanges, dates: DateEdit | None = None
    ) -> None:
        """Change these assets alike, in one transaction; `exif` is merged into the EXIF data of each, and stays
        when the file is read again. Links of live photos
        are not changed here. Raises `NotFound` with the ids that do not belong to the owner, and `DateOutOfRange`; then
        none is changed."""
        exif = changes.get("exif") or {}
        plain = {name: value for name, value in changes.items() if name != "exif"} | {"updated_at": now()}
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            await check_owned(connection, owner_id, asset_ids)
            for batch in iterate_batches(asset_ids):
                await connection.execute(update(_asset).where(_asset.c.id.in_(batch)).values(plain))
                if exif or dates is not None:
                    await _update_metadata(connection, batch, exif, dates)

    async def remove_trashed(
        self, owner_id: UUID, before: datetime, *, with_locked: bool = True
    ) -> AsyncIterator[list[UUID]]:
        """Remove the owner's assets permanently that were moved to the trash before `before`. Yields the ids of each batch that was
        removed. Assets of external libraries stay, as in `AssetRepository.purge_trash`; so do locked ones, if not `with_locked`."""
        old = (_asset.c.deleted_at <= before) & _asset.c.library_id.is_(None) & (_asset.c.owner_id == owner_id)
        if not with_locked:
            old &= _asset.c.visibility != Visibility.LOCKED
        found: Sequence[UUID] | None = None
        while found is None or len(found) == IDS_AT_ONCE:
            async with self._database.read() as connection:
                found = (await connection.execute(select(_asset.c.id).where(old).limit(IDS_AT_ONCE))).scalars().all()
            for begin in range(0, len(found), REMOVED_AT_ONCE):
                yield await self._remove_still(owner_id, old & _asset.c.id.in_(found[begin : begin + REMOVED_AT_ONCE]))

    async def _remove_still(self, owner_id: UUID, condition: ColumnElement[bool]) -> list[UUID]:
        """Remove the owner's assets for which this holds: the owner may have restored some since they were found."""
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            removed = list((await connection.execute(select(_asset.c.id).where(condition))).scalars())
            await remove_assets(connection, owner_id, removed)
        return removed


async def _update_metadata(
    connection: AsyncConnection, asset_ids: Sequence[UUID], exif: dict[str, object], dates: DateEdit | None
) -> None:
    columns = (_asset.c.id, _asset.c.exif, _asset.c.exif_edits, _asset.c.file_created_at, _asset.c.local_date_time)
    rows = await connection.execute(select(*columns).where(_asset.c.id.in_(asset_ids)).with_for_update())
    values: list[dict[str, Any]] = []
    for row in rows:
        times, edited = {}, dict(exif)
        if dates is not None:
            known = (row.exif or {}) | exif
            times, written = compute_dates(dates, row.file_created_at, row.local_date_time, known)
            edited |= written
        merged = {"exif": (row.exif or {}) | edited, "exif_edits": merge_edits(row.exif_edits, row.exif, edited)}
        values.append({"id_": row.id, **times, **merged})
    changed = {name: bindparam(name) for name in values[0] if name != "id_"}
    await connection.execute(update(_asset).where(_asset.c.id == bindparam("id_")).values(changed), values)
