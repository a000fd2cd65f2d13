"""Pairs photos with videos that have the same content identifier (Apple's live photos), as Immich does: the photo shows the video, which is hidden.

Only assets of one library, or uploads, are paired. Assets in the trash are not, and neither is a photo whose video its owner or its client chose.
All functions run statements in the caller's transaction. The caller has locked the owner's row, so no other transaction pairs meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.assets import live_photo_links
from app.catalog.database.engine import now
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, Visibility
from app.unicode_folding import fold_case

LIVE_PHOTO_CID = "livePhotoCID"
"""Immich's name of the content identifier in an asset's EXIF."""
LINKED_BY_HAND = {LIVE_PHOTO_CID: None}
"""The EXIF edit of a photo whose video was chosen by its owner or its client, or unlinked: its identifier does not count."""

_MAX_IDENTIFIER = 200
"""Characters. Apple's are UUIDs, of 36; PostgreSQL indexes at most 2,704 bytes."""
_MEMBERS_PER_IDENTIFIER = 50
"""More assets with one identifier are not considered, on average."""

_asset = tables.asset
_file = tables.file
_photo = tables.asset.alias("photo")
_video = tables.asset.alias("video")


class PairMember(NamedTuple):
    """A photo or video with a content identifier. `video_id`: the video that the photo shows. `photo_id`: the photo that shows the video."""

    id: UUID
    type: AssetType
    library_id: UUID | None
    content_identifier: str
    name: str
    path: str
    visibility: Visibility
    video_id: UUID | None
    photo_id: UUID | None


def get_content_identifier(exif: object) -> str | None:
    """The identifier in the EXIF of an asset, as stored in its own column; None if there is none, or none of Apple's."""
    value = exif.get(LIVE_PHOTO_CID) if isinstance(exif, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_IDENTIFIER else None


async def pair_live_photos(connection: AsyncConnection, owner_id: UUID, content_identifiers: Iterable[str]) -> None:
    """Pair the owner's photos and videos with these identifiers, as far as each has a counterpart."""
    for batch in iterate_batches(content_identifiers):
        groups: dict[tuple[UUID | None, str], list[PairMember]] = {}
        for member in await _select_members(connection, owner_id, batch):
            groups.setdefault((member.library_id, member.content_identifier), []).append(member)
        for members in groups.values():
            await _apply_pairs(connection, owner_id, members)


async def unpair_live_photos(connection: AsyncConnection, owner_id: UUID, asset_ids: Iterable[UUID]) -> set[str]:
    """Unlink those of the assets that are paired, photos and videos; the videos become visible. Returns the identifiers that the assets have."""
    identifiers: set[str] = set()
    visibilities: dict[UUID, Visibility] = {}
    for batch in iterate_batches(asset_ids):
        known = select(_asset.c.live_photo_cid).where(_asset.c.id.in_(batch), _asset.c.live_photo_cid.is_not(None))
        found = set((await connection.execute(known)).scalars())
        if not found:
            continue
        identifiers |= found
        is_paired = (_photo.c.live_photo_video_id == _video.c.id) & (_photo.c.live_photo_cid == _video.c.live_photo_cid)
        paired = (
            select(_photo.c.id, _photo.c.visibility, _video.c.id)
            .join(_video, is_paired)
            .where(_photo.c.owner_id == owner_id, _photo.c.id.in_(batch) | _video.c.id.in_(batch))
        )
        for photo_id, visibility, video_id in (await connection.execute(paired)).all():
            await _set_video(connection, photo_id, None)
            visibilities[video_id] = visibility
    await live_photo_links.unhide_videos(connection, owner_id, visibilities)
    return identifiers


async def find_unpaired_identifiers(connection: AsyncConnection, asset_ids: Iterable[UUID]) -> set[str]:
    """The identifiers of those of the assets that are linked to no counterpart."""
    shown = select(_photo.c.id).where(_photo.c.live_photo_video_id == _asset.c.id).exists()
    identifiers: set[str] = set()
    for batch in iterate_batches(asset_ids):
        unpaired = _asset.c.id.in_(batch) & _asset.c.live_photo_cid.is_not(None)
        unlinked = _asset.c.live_photo_video_id.is_(None) & ~shown
        identifiers.update(
            (await connection.execute(select(_asset.c.live_photo_cid).where(unpaired, unlinked))).scalars()
        )
    return identifiers


def choose_pairs(members: Sequence[PairMember]) -> dict[UUID, UUID]:
    """The video of each photo, by the photo's id. `members` have one identifier and one library. Edited copies have the identifier of their
    originals, so files of the same name go together first; of the others, existing pairs stay."""
    videos = {member.id: member for member in members if member.type is AssetType.VIDEO}
    photos = {
        member.id: member
        for member in members
        if member.type is AssetType.IMAGE and (member.video_id is None or member.video_id in videos)
    }
    for member in members:
        if member.photo_id is not None and member.photo_id not in photos:
            videos.pop(member.id, None)
    fits: tuple[Callable[[PairMember, PairMember], bool], ...] = (
        lambda photo, video: PurePosixPath(photo.path).with_suffix("") == PurePosixPath(video.path).with_suffix(""),
        lambda photo, video: _fold_stem(photo.name) == _fold_stem(video.name),
        lambda photo, video: photo.video_id == video.id,
        lambda photo, video: True,
    )
    pairs: dict[UUID, UUID] = {}
    for fit in fits:
        for photo in list(photos.values()):
            for video in videos.values():
                # A video in the locked folder must not be shown by a photo outside, nor vanish behind one inside.
                is_locked = {each.visibility is Visibility.LOCKED for each in (photo, video)}
                if len(is_locked) == 1 and fit(photo, video):
                    pairs[photo.id] = video.id
                    del photos[photo.id], videos[video.id]
                    break
    return pairs


def _fold_stem(name: str) -> str:
    return fold_case(PurePosixPath(name).stem)


async def _select_members(
    connection: AsyncConnection, owner_id: UUID, content_identifiers: Sequence[str]
) -> list[PairMember]:
    members = (
        select(
            _asset.c.id,
            _asset.c.type,
            _asset.c.library_id,
            _asset.c.live_photo_cid,
            _asset.c.original_file_name,
            _file.c.path,
            _asset.c.visibility,
            _asset.c.live_photo_video_id,
            _photo.c.id,
        )
        .join(_file, _asset.c.file_id == _file.c.id)
        .outerjoin(_photo, _photo.c.live_photo_video_id == _asset.c.id)
        .where(
            _asset.c.owner_id == owner_id,
            _asset.c.live_photo_cid.in_(content_identifiers),
            _asset.c.deleted_at.is_(None),
            _asset.c.type.in_([AssetType.IMAGE, AssetType.VIDEO]),
        )
        .order_by(_asset.c.created_at, _asset.c.id)
        .limit(_MEMBERS_PER_IDENTIFIER * len(content_identifiers))
    )
    return [PairMember(*row) for row in await connection.execute(members)]


async def _apply_pairs(connection: AsyncConnection, owner_id: UUID, members: Sequence[PairMember]) -> None:
    if len({member.type for member in members}) == 1:
        return
    pairs = choose_pairs(members)
    videos = {member.id for member in members if member.type is AssetType.VIDEO}
    visibilities: dict[UUID, Visibility] = {}
    for photo in members:
        if photo.video_id in videos and photo.video_id is not None and pairs.get(photo.id) != photo.video_id:
            await _set_video(connection, photo.id, pairs.get(photo.id))
            visibilities[photo.video_id] = photo.visibility
        elif photo.video_id is None and photo.id in pairs:
            await _set_video(connection, photo.id, pairs[photo.id])
        else:
            continue
        if photo.id in pairs:
            await live_photo_links.hide_video(connection, owner_id, pairs[photo.id])
    await live_photo_links.unhide_videos(connection, owner_id, visibilities)


async def _set_video(connection: AsyncConnection, photo_id: UUID, video_id: UUID | None) -> None:
    values = {"live_photo_video_id": video_id, "updated_at": now()}
    await connection.execute(update(_asset).where(_asset.c.id == photo_id).values(values))
