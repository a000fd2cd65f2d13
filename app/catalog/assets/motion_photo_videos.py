"""Links a motion photo to the video that was extracted from it: the video becomes a hidden asset of its own. The
extraction is in `app.media`."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota, tasks
from app.catalog.assets import live_photo_links
from app.catalog.assets.asset_removal import remove_unlinked_videos
from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation, NotFound, WriteLeaseLost
from app.catalog.files import make_live, mark_unfinished_for_deletion
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, AssetType, NewAsset, StoredFile, Visibility

_asset = tables.asset


class MotionVideoRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def link_video(self, photo_id: UUID, new: NewAsset, stored: StoredFile) -> UUID | None:
        """Link the photo to the video, in one transaction: to a new asset, or to the owner's video of the same content
        if there is one. Returns the video's id; None when the photo has a video already, and then nothing changes.

        The file becomes live only if the new asset is inserted; else it is marked for deletion. It does not count
        against the quota, as its bytes are part of the photo. Raises `NotFound` (the photo) and `WriteLeaseLost`; then
        the file is marked for deletion, too.
        """
        try:
            try:
                return await self._link_video(photo_id, new, stored)
            except ConstraintViolation:  # an upload of the same content was inserted meanwhile
                return await self._link_video(photo_id, new, stored)
        except (ConstraintViolation, WriteLeaseLost, NotFound):
            async with self._database.write() as connection:
                await mark_unfinished_for_deletion(connection, [stored.file_id])
            raise

    async def remove_video(self, photo: Asset, video_id: UUID) -> None:
        """Unlink the photo's video and remove its asset, unless another photo shows it or its owner made it visible or a
        favourite."""
        async with self._database.write() as connection:
            await quota.lock_owner(connection, photo.owner_id)
            linked = (_asset.c.id == photo.id) & (_asset.c.live_photo_video_id == video_id)
            unlink = update(_asset).where(linked).values(live_photo_video_id=None, updated_at=now())
            if (await connection.execute(unlink)).rowcount:
                await remove_unlinked_videos(connection, photo.owner_id, {video_id: photo.visibility})

    async def _link_video(self, photo_id: UUID, new: NewAsset, stored: StoredFile) -> UUID | None:
        async with self._database.write() as connection:
            await quota.lock_owner(connection, new.owner_id)
            photo = (_asset.c.id == photo_id) & (_asset.c.owner_id == new.owner_id)
            row = (await connection.execute(select(_asset.c.live_photo_video_id).where(photo))).one_or_none()
            if row is None:
                raise NotFound("asset", [photo_id])
            if row.live_photo_video_id is not None:
                await mark_unfinished_for_deletion(connection, [stored.file_id])
                return None
            video_id = await _find_video(connection, new.owner_id, new.checksum)
            if video_id is None:
                await make_live(connection, new.owner_id, stored)
                await _insert_video(connection, new, stored)
                video_id = new.id
            else:
                await mark_unfinished_for_deletion(connection, [stored.file_id])
                await live_photo_links.hide_video(connection, new.owner_id, video_id)
            link = update(_asset).where(photo).values(live_photo_video_id=video_id, updated_at=now())
            await connection.execute(link)
        return video_id


async def _find_video(connection: AsyncConnection, owner_id: UUID, checksum: bytes) -> UUID | None:
    same = (_asset.c.owner_id == owner_id) & (_asset.c.checksum == checksum) & _asset.c.library_id.is_(None)
    video = select(_asset.c.id).where(same, _asset.c.type == AssetType.VIDEO)
    return (await connection.execute(video)).scalar_one_or_none()


async def _insert_video(connection: AsyncConnection, new: NewAsset, stored: StoredFile) -> None:
    moment = now()
    values = {name: getattr(new, name) for name in NewAsset.__dataclass_fields__} | {
        "visibility": Visibility.HIDDEN,
        "file_id": stored.file_id,
        "created_at": moment,
        "updated_at": moment,
        "is_offline": False,
    }
    await connection.execute(insert(_asset).values(values))
    await tasks.add_tasks(connection, [(new.id, new.type)], moment)
