"""Originals and sidecars with their assets, in pages by id: for exports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from app.catalog.assets.asset_queries import asset_from_row, select_assets_with_files, where_trashed
from app.catalog.database.engine import Database
from app.catalog.files import file_from_row, iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, File

PAGE_ASSETS = 500

_asset = tables.asset
_file = tables.file


@dataclass(frozen=True, slots=True)
class ExportedAsset:
    """An asset with its original (`asset.file`), and its sidecar if it has one."""

    asset: Asset
    sidecar: File | None


class ExportRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def iterate_of_owner(self, owner_id: UUID, *, with_trash: bool) -> AsyncIterator[list[ExportedAsset]]:
        """All assets of the user, whatever their visibility; those in the trash on request."""
        where = [_asset.c.owner_id == owner_id]
        if not with_trash:
            where.append(where_trashed(False))
        last: UUID | None = None
        while page := await self._load(where if last is None else [*where, _asset.c.id > last]):
            yield page
            last = page[-1].asset.id

    async def measure_of_owner(self, owner_id: UUID, *, with_trash: bool) -> tuple[int, int]:
        """The number of the files that `iterate_of_owner` comes to, and the bytes of the originals."""
        numbers = (func.count(), func.count(_asset.c.sidecar_id), func.coalesce(func.sum(_file.c.size), 0))
        statement = select(*numbers).select_from(_asset.join(_file, _file.c.id == _asset.c.file_id))
        statement = statement.where(_asset.c.owner_id == owner_id)
        if not with_trash:
            statement = statement.where(where_trashed(False))
        async with self._database.read() as connection:
            originals, sidecars, size = (await connection.execute(statement)).one()
        return originals + sidecars, int(size)

    async def iterate_by_id(self, asset_ids: Sequence[UUID]) -> AsyncIterator[list[ExportedAsset]]:
        """These assets, and the videos of the live photos among them. Ids that do not exist are left out."""
        for batch in iterate_batches(asset_ids):
            for start in range(0, len(batch), PAGE_ASSETS):
                chosen = _asset.c.id.in_(batch[start : start + PAGE_ASSETS])
                videos = select(_asset.c.live_photo_video_id).where(chosen, _asset.c.live_photo_video_id.is_not(None))
                for where in (chosen, _asset.c.id.in_(videos) & ~chosen):
                    if page := await self._load([where]):
                        yield page

    async def _load(self, where: Sequence[ColumnElement[bool]]) -> list[ExportedAsset]:
        statement = select_assets_with_files().where(*where).order_by(_asset.c.id).limit(PAGE_ASSETS)
        async with self._database.read() as connection:
            assets = [asset_from_row(row) for row in await connection.execute(statement)]
            sidecars: dict[UUID, File] = {}
            for batch in iterate_batches(asset.sidecar_id for asset in assets if asset.sidecar_id is not None):
                rows = await connection.execute(select(_file).where(_file.c.id.in_(batch)))
                sidecars.update((file.id, file) for file in map(file_from_row, rows))
        return [ExportedAsset(asset, sidecars.get(asset.sidecar_id) if asset.sidecar_id else None) for asset in assets]
