"""Permanent removal of assets: deletes their rows, and marks every file that was theirs or derived from them for
deletion. Of external originals and of foreign files only the rows are deleted: the bytes are not ours.

All functions run statements in the caller's transaction. The caller has locked the owner's row, so no other transaction
adds a derivative meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets import live_photo_links, live_photo_pairs
from app.catalog.database.engine import now
from app.catalog.files import iterate_batches
from app.catalog.moves.kept_copies import mark_copies_for_deletion
from app.catalog.schema import tables
from app.catalog.schema.records import QUOTA_KINDS, FileKind, FileState, Visibility

REPLACED_FILE_GRACE = timedelta(minutes=30)
"""How long the sweeper leaves replaced files alone: a client that is receiving one, or was just given a link to it
(valid for 15 minutes by default), gets it whole."""

_NO_GRACE = timedelta(0)
_asset = tables.asset
_derivative = tables.derivative
_file = tables.file
_person = tables.person


async def remove_assets(connection: AsyncConnection, owner_id: UUID, asset_ids: list[UUID]) -> int:
    """Remove assets that the caller has found to exist. Returns how many, without motion videos."""
    visibilities, identifiers = await _delete_assets(connection, owner_id, asset_ids)
    await remove_unlinked_videos(connection, owner_id, visibilities)
    await live_photo_pairs.pair_live_photos(connection, owner_id, identifiers)
    return len(set(asset_ids))


async def remove_unlinked_videos(
    connection: AsyncConnection, owner_id: UUID, visibilities: Mapping[UUID, Visibility]
) -> None:
    """Remove those of the videos that no photo shows any more, but for those that their owner made visible or a
    favourite: these have the visibility of their former photos."""
    unlinked = await live_photo_links.find_unlinked_videos(connection, visibilities)
    await _delete_assets(connection, owner_id, unlinked, live_photo_links.where_unused())
    await live_photo_links.unhide_videos(connection, owner_id, visibilities)


async def mark_live_for_deletion(
    connection: AsyncConnection, owner_id: UUID, file_ids: Iterable[UUID], grace: timedelta = _NO_GRACE
) -> None:
    """Mark live files for deletion that nothing refers to any more, and refund their bytes to the quota. The sweeper
    leaves them alone until `grace` has passed. Of external and foreign files only the rows are deleted, at once, and a
    copy of ours is marked for deletion."""
    freed = 0
    due = now() + grace
    for batch in iterate_batches(file_ids):
        is_kept = (_file.c.kind == FileKind.EXTERNAL) | _file.c.is_foreign
        removal = delete(_file).where(_file.c.id.in_(batch), is_kept)
        columns = (_file.c.kind, func.coalesce(_file.c.size, 0), _file.c.copy_path)
        removed = (await connection.execute(removal.returning(*columns))).all()
        freed += sum(size for kind, size, _ in removed if kind in QUOTA_KINDS)
        if copies := [copy_path for _, _, copy_path in removed if copy_path]:
            await mark_copies_for_deletion(connection, copies, grace)
        marking = update(_file).where(_file.c.id.in_(batch)).values(state=FileState.DOOMED, not_before=due)
        marked = await connection.execute(marking.returning(_file.c.kind, func.coalesce(_file.c.size, 0)))
        freed += sum(size for kind, size in marked if kind in QUOTA_KINDS)
    if freed:
        await quota.refund_quota(connection, owner_id, freed)


async def _delete_assets(
    connection: AsyncConnection, owner_id: UUID, asset_ids: Iterable[UUID], *only: ColumnElement[bool]
) -> tuple[dict[UUID, Visibility], set[str]]:
    """Returns the motion videos that the removed photos referred to, each with its photo's visibility, and the content
    identifiers of the removed assets."""
    visibilities: dict[UUID, Visibility] = {}
    identifiers: set[str] = set()
    for batch in iterate_batches(asset_ids):
        mine = select(_asset.c.id).where(_asset.c.id.in_(batch), _asset.c.owner_id == owner_id, *only)
        locked_ids = list((await connection.execute(mine.with_for_update())).scalars())
        await reset_folder_digests(connection, locked_ids)
        files = await _delete_derivatives(connection, locked_ids)
        deletion = delete(_asset).where(_asset.c.id.in_(locked_ids))
        links = (_asset.c.live_photo_video_id, _asset.c.visibility, _asset.c.live_photo_cid)
        rows = (await connection.execute(deletion.returning(_asset.c.file_id, _asset.c.sidecar_id, *links))).all()
        identifiers.update(row.live_photo_cid for row in rows if row.live_photo_cid)
        visibilities.update((row.live_photo_video_id, row.visibility) for row in rows if row.live_photo_video_id)
        files += [file_id for row in rows for file_id in (row.file_id, row.sidecar_id) if file_id]
        await mark_live_for_deletion(connection, owner_id, files)
    return visibilities, identifiers


async def _delete_derivatives(connection: AsyncConnection, asset_ids: list[UUID]) -> list[UUID]:
    """Delete the derivatives of the assets and the persons' thumbnails cut from them. Returns the ids of their files."""
    made = delete(_derivative).where(_derivative.c.asset_id.in_(asset_ids)).returning(_derivative.c.file_id)
    files = list((await connection.execute(made)).scalars())
    has_thumbnail = _person.c.thumbnail_asset_id.in_(asset_ids)
    thumbnails = select(_person.c.thumbnail_file_id).where(has_thumbnail, _person.c.thumbnail_file_id.is_not(None))
    files += [file_id for file_id in (await connection.execute(thumbnails)).scalars() if file_id]
    await connection.execute(
        update(_person).where(has_thumbnail).values(thumbnail_file_id=None, thumbnail_asset_id=None)
    )
    return files


async def reset_folder_digests(connection: AsyncConnection, asset_ids: Sequence[UUID]) -> None:
    """Call it before assets are removed or renamed: the next scan then compares their folders file by file, and adds
    files that still exist."""
    folder_ids = select(tables.library_file.c.folder_id).where(tables.library_file.c.asset_id.in_(asset_ids))
    await connection.execute(
        update(tables.library_folder).where(tables.library_folder.c.id.in_(folder_ids)).values(digest=None)
    )
