"""The videos of live photos: hides a video when a photo is linked to it, and restores its visibility when no photo is linked to it any more.

All functions run statements in the caller's transaction. The caller has locked the owner's row, so no other transaction
links or unlinks meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from sqlalchemy import ColumnElement, case, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.errors import NotFound
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, Visibility

_asset = tables.asset


def where_unused() -> ColumnElement[bool]:
    """True for a video that exists for a photo only: its owner neither made it visible nor a favourite."""
    return (_asset.c.visibility == Visibility.HIDDEN) & _asset.c.is_favorite.is_(False)


async def hide_video(connection: AsyncConnection, owner_id: UUID, video_id: UUID) -> None:
    """Hide a video that a photo is to show, as Immich does. Raises `NotFound` when it is not a video of this owner."""
    video = (_asset.c.id == video_id) & (_asset.c.owner_id == owner_id) & (_asset.c.type == AssetType.VIDEO)
    hidden = case((_asset.c.visibility == Visibility.TIMELINE, Visibility.HIDDEN.value), else_=_asset.c.visibility)
    if (await connection.execute(update(_asset).where(video).values(visibility=hidden))).rowcount != 1:
        raise NotFound("asset", [video_id])


async def find_unlinked_videos(connection: AsyncConnection, video_ids: Iterable[UUID]) -> list[UUID]:
    """The videos to which no photo refers."""
    unlinked: list[UUID] = []
    for batch in iterate_batches(video_ids):
        shown = select(_asset.c.live_photo_video_id).where(_asset.c.live_photo_video_id.in_(batch))
        still_shown = set((await connection.execute(shown)).scalars())
        unlinked += [video for video in batch if video not in still_shown]
    return unlinked


async def unhide_videos(connection: AsyncConnection, owner_id: UUID, visibilities: Mapping[UUID, Visibility]) -> None:
    """Give hidden videos that no photo shows any more the visibility of their former photos. Visible videos are not
    changed."""
    unlinked = await find_unlinked_videos(connection, visibilities)
    hidden = (_asset.c.owner_id == owner_id) & (_asset.c.visibility == Visibility.HIDDEN)
    for visibility in Visibility:
        for batch in iterate_batches(video for video in unlinked if visibilities[video] is visibility):
            unhide = update(_asset).where(_asset.c.id.in_(batch), hidden)
            await connection.execute(unhide.values(visibility=visibility))
