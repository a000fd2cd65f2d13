"""Trash, restore and permanent removal: rows are deleted, files marked for deletion and the quota refunded in one
transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database.engine import Database
from app.catalog.errors import NotAPhoto, NotFound
from app.catalog.schema import tables
from app.catalog.schema.records import AssetChanges, AssetType, FileState, Visibility
from tests.catalog.rows import file_states, make_user, upload, used_bytes


async def test_removal_dooms_every_file_and_gives_the_quota_back(catalog: Catalog) -> None:
    user = await make_user(catalog)
    removed = await upload(catalog, user.id, size=70, sidecar_size=7)
    kept = await upload(catalog, user.id, size=30)

    assert await catalog.assets.delete(user.id, [removed.id, removed.id]) == 1

    assert await catalog.assets.get(removed.id) is None
    assert await file_states(catalog) == {
        removed.file.id: FileState.DOOMED,
        removed.sidecar_id: FileState.DOOMED,
        kept.file.id: FileState.LIVE,
    }
    assert await used_bytes(catalog, user.id) == 30


async def test_what_was_removed_can_be_uploaded_again(catalog: Catalog) -> None:
    user = await make_user(catalog, quota=4)
    first = await upload(catalog, user.id, content=b"same")
    await catalog.assets.delete(user.id, [first.id])
    second = await upload(catalog, user.id, content=b"same")
    assert second.id != first.id


@pytest.mark.parametrize("action", ["delete", "trash", "restore"])
async def test_ids_that_are_not_there_or_not_yours_change_nothing(catalog: Catalog, action: str) -> None:
    user, other = await make_user(catalog), await make_user(catalog)
    mine, theirs = await upload(catalog, user.id), await upload(catalog, other.id)
    unknown = uuid4()
    call = getattr(catalog.assets, action)

    with pytest.raises(NotFound) as refused:
        await call(user.id, [mine.id, theirs.id, unknown])

    assert refused.value.ids == (theirs.id, unknown)
    assert await catalog.assets.get(mine.id) == mine
    assert await catalog.assets.get(theirs.id) == theirs
    assert await used_bytes(catalog, user.id) == 100


async def test_what_is_used_never_falls_below_nothing(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id, size=100)
    async with catalog.engine.begin() as connection:
        await connection.execute(update(tables.user).where(tables.user.c.id == user.id).values(used=60))
    await catalog.assets.delete(user.id, [asset.id])
    assert await used_bytes(catalog, user.id) == 0


async def test_the_trash_keeps_files_and_quota_and_its_first_time(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    await catalog.assets.trash(user.id, [asset.id])
    trashed = await catalog.assets.get(asset.id)
    await catalog.assets.trash(user.id, [asset.id])
    again = await catalog.assets.get(asset.id)

    assert trashed is not None
    assert again is not None
    assert again.deleted_at == trashed.deleted_at is not None
    assert trashed.file.state is FileState.LIVE
    assert await used_bytes(catalog, user.id) == 100
    assert await catalog.assets.get_page(user.id) == ([], None)
    assert await catalog.assets.get_page(user.id, trashed=True) == ([again], None)


async def test_restoring_counts_what_was_in_the_trash(catalog: Catalog) -> None:
    user = await make_user(catalog)
    one, two, three = [await upload(catalog, user.id) for _ in range(3)]
    await catalog.assets.trash(user.id, [one.id, two.id])
    assert await catalog.assets.restore(user.id, [one.id, three.id]) == 1
    assert await catalog.assets.restore(user.id) == 1
    assert await catalog.assets.restore(user.id) == 0
    assert {asset.id for asset in (await catalog.assets.get_page(user.id))[0]} == {one.id, two.id, three.id}


async def test_a_photo_takes_its_motion_video_along(catalog: Catalog) -> None:
    user = await make_user(catalog)
    video = await upload(catalog, user.id, type=AssetType.VIDEO)
    photo = await upload(catalog, user.id, live_photo_video_id=video.id)
    await catalog.assets.delete(user.id, [photo.id])
    assert await catalog.assets.get(video.id) is None
    assert set((await file_states(catalog)).values()) == {FileState.DOOMED}
    assert await used_bytes(catalog, user.id) == 0


async def test_a_motion_video_stays_while_another_photo_shows_it(catalog: Catalog) -> None:
    user = await make_user(catalog)
    video = await upload(catalog, user.id, type=AssetType.VIDEO)
    one = await upload(catalog, user.id, live_photo_video_id=video.id)
    two = await upload(catalog, user.id, live_photo_video_id=video.id)
    await catalog.assets.delete(user.id, [one.id])
    assert await catalog.assets.get(video.id) is not None
    await catalog.assets.delete(user.id, [two.id, video.id])
    assert await used_bytes(catalog, user.id) == 0


@pytest.mark.parametrize(
    "change", [{"visibility": Visibility.TIMELINE}, {"visibility": Visibility.ARCHIVE}, {"is_favorite": True}], ids=str
)
async def test_a_motion_video_stays_when_its_owner_wants_it(catalog: Catalog, change: AssetChanges) -> None:
    """A hidden video gets the visibility of its former photo."""
    user = await make_user(catalog)
    video = await upload(catalog, user.id, type=AssetType.VIDEO)
    photo = await upload(catalog, user.id, live_photo_video_id=video.id)
    await catalog.assets.update(user.id, video.id, change)
    await catalog.assets.delete(user.id, [photo.id])
    left = await catalog.assets.get(video.id)
    assert left is not None
    assert left.visibility is change.get("visibility", Visibility.TIMELINE)
    assert left.file.state is FileState.LIVE
    assert await used_bytes(catalog, user.id) == 100


@pytest.mark.parametrize("other", [False, True], ids=["no video", "another video"])
async def test_a_video_that_a_photo_no_longer_shows_comes_back_into_sight(catalog: Catalog, *, other: bool) -> None:
    user = await make_user(catalog)
    video, following = [await upload(catalog, user.id, type=AssetType.VIDEO) for _ in range(2)]
    photo = await upload(catalog, user.id, live_photo_video_id=video.id)
    await catalog.assets.update(user.id, photo.id, {"visibility": Visibility.ARCHIVE})

    changed = await catalog.assets.update(user.id, photo.id, {"live_photo_video_id": following.id if other else None})

    assert changed is not None
    assert changed.live_photo_video_id == (following.id if other else None)
    shown = await catalog.assets.get_many_owned(user.id, [video.id, following.id])
    assert shown[video.id].visibility is Visibility.ARCHIVE
    assert shown[following.id].visibility is (Visibility.HIDDEN if other else Visibility.TIMELINE)


async def test_a_video_that_another_photo_shows_stays_hidden(catalog: Catalog) -> None:
    user = await make_user(catalog)
    video = await upload(catalog, user.id, type=AssetType.VIDEO)
    one, _ = [await upload(catalog, user.id, live_photo_video_id=video.id) for _ in range(2)]
    again = await catalog.assets.update(user.id, one.id, {"live_photo_video_id": video.id, "is_favorite": True})
    assert again is not None
    await catalog.assets.update(user.id, one.id, {"live_photo_video_id": None})
    left = await catalog.assets.get(video.id)
    assert left is not None
    assert left.visibility is Visibility.HIDDEN


async def test_only_a_photo_shows_a_motion_video(catalog: Catalog) -> None:
    user = await make_user(catalog)
    video, other = [await upload(catalog, user.id, type=AssetType.VIDEO) for _ in range(2)]
    photo = await upload(catalog, user.id)
    for shown in (other, video):
        with pytest.raises(NotAPhoto):
            await catalog.assets.update(user.id, video.id, {"live_photo_video_id": shown.id})
    with pytest.raises(NotFound):
        await catalog.assets.update(user.id, photo.id, {"live_photo_video_id": photo.id})
    with pytest.raises(NotAPhoto):
        await upload(catalog, user.id, type=AssetType.VIDEO, live_photo_video_id=other.id)
    assert await catalog.assets.get_many_owned(user.id, [video.id, other.id]) == {video.id: video, other.id: other}
    assert await used_bytes(catalog, user.id) == 300


async def test_a_photo_outlives_its_motion_video(catalog: Catalog) -> None:
    user = await make_user(catalog)
    video = await upload(catalog, user.id, type=AssetType.VIDEO)
    photo = await upload(catalog, user.id, live_photo_video_id=video.id)
    await catalog.assets.delete(user.id, [video.id])
    left = await catalog.assets.get(photo.id)
    assert left is not None
    assert left.live_photo_video_id is None


async def test_the_trash_is_emptied_by_age_of_every_owner(catalog: Catalog) -> None:
    one, two = await make_user(catalog), await make_user(catalog)
    old = [await upload(catalog, owner.id) for owner in (one, two, two)]
    kept = await upload(catalog, one.id)
    for asset in old:
        await catalog.assets.trash(asset.owner_id, [asset.id])
    before = datetime.now(UTC)
    young = await upload(catalog, two.id)
    await catalog.assets.trash(two.id, [young.id])

    assert await catalog.assets.purge_trash(before - timedelta(days=1)) == 0
    assert await catalog.assets.purge_trash(before, limit=2) == 2
    assert await catalog.assets.purge_trash(before, limit=2) == 1
    assert await catalog.assets.purge_trash(before, limit=2) == 0
    assert [asset.id for asset in (await catalog.assets.get_page(two.id, trashed=True))[0]] == [young.id]
    assert await catalog.assets.get(kept.id) == kept
    assert (await used_bytes(catalog, one.id), await used_bytes(catalog, two.id)) == (100, 100)


@pytest.mark.parametrize("meanwhile", ["restored", "restored and trashed again", "removed"])
async def test_what_leaves_the_trash_while_it_is_emptied_is_not_removed_by_age(
    catalog: Catalog, db_url: str, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Another process restores it after the purge has read the due assets and before the purge's transaction."""
    user = await make_user(catalog)
    taken, due = await upload(catalog, user.id), await upload(catalog, user.id)
    await catalog.assets.trash(user.id, [taken.id, due.id])
    before = datetime.now(UTC)
    other = await open_catalog(db_url)
    database = catalog.assets._database

    @asynccontextmanager
    async def write_after_the_other() -> AsyncIterator[AsyncConnection]:
        if meanwhile == "removed":
            await other.assets.delete(user.id, [taken.id])
        else:
            await other.assets.restore(user.id, [taken.id])
        if meanwhile == "restored and trashed again":
            await other.assets.trash(user.id, [taken.id])
        async with Database.write(database) as connection:
            yield connection

    try:
        with monkeypatch.context() as patched:
            patched.setattr(database, "write", write_after_the_other)
            assert await catalog.assets.purge_trash(before) == 1
    finally:
        await other.aclose()

    left = await catalog.assets.get(taken.id)
    assert await catalog.assets.get(due.id) is None
    if meanwhile == "removed":
        assert left is None
        assert await used_bytes(catalog, user.id) == 0
    else:
        assert left is not None
        assert left.file.state is FileState.LIVE
        assert (left.deleted_at is None) is (meanwhile == "restored")
        assert await used_bytes(catalog, user.id) == 100


async def test_removals_and_restores_at_once_agree(catalog: Catalog) -> None:
    user = await make_user(catalog)
    assets = [await upload(catalog, user.id) for _ in range(30)]
    ids = [asset.id for asset in assets]
    await catalog.assets.trash(user.id, ids)

    async with asyncio.timeout(60):
        results = await asyncio.gather(
            catalog.assets.purge_trash(datetime.now(UTC)),
            catalog.assets.restore(user.id),
            catalog.assets.trash(user.id, reversed(ids)),
            catalog.assets.trash(user.id, ids),
            catalog.assets.purge_trash(datetime.now(UTC)),
            catalog.assets.delete(user.id, ids[:5]),
            return_exceptions=True,
        )

    assert {type(result) for result in results if isinstance(result, BaseException)} <= {NotFound}
    left = [asset for asset in assets if await catalog.assets.get(asset.id)]
    assert await used_bytes(catalog, user.id) == 100 * len(left)
    live = {file_id for file_id, state in (await file_states(catalog)).items() if state is FileState.LIVE}
    assert live == {asset.file.id for asset in left}


async def test_thousands_are_removed_in_one_transaction(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.catalog.files.ID_BATCH_SIZE", 7)
    user = await make_user(catalog)
    ids = [(await upload(catalog, user.id)).id for _ in range(40)]
    assert await catalog.assets.delete(user.id, ids) == 40
    assert await used_bytes(catalog, user.id) == 0
    assert set((await file_states(catalog)).values()) == {FileState.DOOMED}
