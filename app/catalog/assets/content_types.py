"""Corrects the type of an asset whose content is of another one than its name says, as processing finds out for files of libraries."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets import live_photo_links
from app.catalog.database.engine import Database, now
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, AssetType
from app.catalog.tasks import TASK_KINDS

_asset = tables.asset
_file = tables.file
_task = tables.task


class ContentTypeRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def correct(self, asset: Asset, type_: AssetType, mime_type: str, task_id: UUID) -> bool:
        """Give the asset and its task another type, and its original another MIME type. Links between photos and videos end. Returns False if
        the task is gone, because the original has changed or the asset was deleted; then nothing changes."""
        async with self._database.write() as connection:
            await quota.lock_owner(connection, asset.owner_id)
            present = select(_task.c.id).where(_task.c.id == task_id, _task.c.asset_id == asset.id).with_for_update()
            if (await connection.execute(present)).one_or_none() is None:
                return False
            await _unlink(connection, asset)
            values = {"type": type_, "updated_at": now()} | ({"duration": None} if type_ is AssetType.IMAGE else {})
            await connection.execute(update(_asset).where(_asset.c.id == asset.id).values(values))
            await connection.execute(update(_file).where(_file.c.id == asset.file.id).values(mime_type=mime_type))
            await connection.execute(update(_task).where(_task.c.id == task_id).values(kind=TASK_KINDS[type_]))
        return True


async def _unlink(connection: AsyncConnection, asset: Asset) -> None:
    """Unlink the photos that show the asset, and the video that the asset shows. Videos become visible like their photos."""
    is_linked = (_asset.c.live_photo_video_id == asset.id) | (
        (_asset.c.id == asset.id) & _asset.c.live_photo_video_id.is_not(None)
    )
    links = select(_asset.c.id, _asset.c.live_photo_video_id, _asset.c.visibility).where(is_linked)
    found = (await connection.execute(links)).all()
    if not found:
        return
    photos = update(_asset).where(_asset.c.id.in_([row.id for row in found]))
    await connection.execute(photos.values(live_photo_video_id=None, updated_at=now()))
    visibilities = {row.live_photo_video_id: row.visibility for row in found}
    await live_photo_links.unhide_videos(connection, asset.owner_id, visibilities)
