"""Removal of assets for good: their rows go, and every file that was theirs or made from them is doomed. Originals of external
libraries are not ours: only their rows go.

Statements inside a caller's transaction, which has locked the owner's row: nobody adds a derivative meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets import live_photo_links
from app.catalog.database.engine import now
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import QUOTA_KINDS, FileKind, FileState, Visibility

REPLACED_FILE_GRACE = timedelta(minutes=30)
"""Whoever is being sent a file that was replaced, or was just given a link to it (15 minutes, unless set otherwise), gets it whole."""

_NO_GRACE = timedelta(0)
_asset = tables.asset
_derivative = tables.derivative
_file = tables.file
_person = tables.person


async def remove_assets(connection: AsyncConnection, owner_id: UUID, asset_ids: list[UUID]) -> int:
    """Of assets that are known to be there; how many went, motion videos not counted."""
    places = await _delete_assets(connection, owner_id, asset_ids)
    alone = await live_photo_links.find_unlinked_videos(connection, places)
    await _delete_assets(connection, owner_id, alone, live_photo_links.where_unused())
    await live_photo_links.unhide_videos(connection, owner_id, places)
    return len(set(asset_ids))


async def mark_live_for_deletion(
    connection: AsyncConnection, owner_id: UUID, file_ids: Iterable[UUID], grace: timedelta = _NO_GRACE
) -> None:
    """Nothing refers to these files any more; what they took of the quota is given back. Not swept before `grace` is over."""
    freed = 0
    due = now() + grace
    for batch in iterate_batches(file_ids):
        external = (_file.c.kind == FileKind.EXTERNAL) & _file.c.id.in_(batch)
        await connection.execute(delete(_file).where(external))
        doom = update(_file).where(_file.c.id.in_(batch)).values(state=FileState.DOOMED, not_before=due)
        doomed = await connection.execute(doom.returning(_file.c.kind, func.coalesce(_file.c.size, 0)))
        freed += sum(size for kind, size in doomed if kind in QUOTA_KINDS)
    if freed:
        await quota.refund_quota(connection, owner_id, freed)


async def _delete_assets(
    connection: AsyncConnection, owner_id: UUID, asset_ids: Iterable[UUID], *only: ColumnElement[bool]
) -> dict[UUID, Visibility]:
    """Returns the motion videos that they referred to, and where the photos were."""
    places: dict[UUID, Visibility] = {}
    for batch in iterate_batches(asset_ids):
        mine = select(_asset.c.id).where(_asset.c.id.in_(batch), _asset.c.owner_id == owner_id, *only)
        going = list((await connection.execute(mine.with_for_update())).scalars())
        await reset_folder_digests(connection, going)
        files = await _delete_derivatives(connection, going)
        gone = delete(_asset).where(_asset.c.id.in_(going))
        columns = (_asset.c.file_id, _asset.c.sidecar_id, _asset.c.live_photo_video_id, _asset.c.visibility)
        rows = (await connection.execute(gone.returning(*columns))).all()
        places.update((row.live_photo_video_id, row.visibility) for row in rows if row.live_photo_video_id)
        files += [file_id for row in rows for file_id in (row.file_id, row.sidecar_id) if file_id]
        await mark_live_for_deletion(connection, owner_id, files)
    return places


async def _delete_derivatives(connection: AsyncConnection, asset_ids: list[UUID]) -> list[UUID]:
    """The rows of what was made from the assets go, persons' thumbnails too; their files."""
    made = delete(_derivative).where(_derivative.c.asset_id.in_(asset_ids)).returning(_derivative.c.file_id)
    files = list((await connection.execute(made)).scalars())
    shown = _person.c.thumbnail_asset_id.in_(asset_ids)
    faces = select(_person.c.thumbnail_file_id).where(shown, _person.c.thumbnail_file_id.is_not(None))
    files += [file_id for file_id in (await connection.execute(faces)).scalars() if file_id]
    await connection.execute(update(_person).where(shown).values(thumbnail_file_id=None, thumbnail_asset_id=None))
    return files


async def reset_folder_digests(connection: AsyncConnection, asset_ids: Sequence[UUID]) -> None:
    """Before assets are removed, or leave their folders: the next scan compares these file by file, and takes in what is still there."""
    of = select(tables.library_file.c.folder_id).where(tables.library_file.c.asset_id.in_(asset_ids))
    await connection.execute(
        update(tables.library_folder).where(tables.library_folder.c.id.in_(of)).values(digest=None)
    )
