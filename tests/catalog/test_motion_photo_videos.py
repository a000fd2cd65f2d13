"""The video in a motion photo becomes one hidden asset that the photo is linked to, however often it is extracted."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from app.catalog.catalog import Catalog
from app.catalog.errors import ConstraintViolation, NotFound, WriteLeaseLost
from app.catalog.schema.records import Asset, AssetType, FileKind, FileState, StoredFile, TaskKind, Visibility
from tests.catalog.rows import begin, file_states, make_user, new_asset, stored, task_of, upload, used_bytes

MOTION = b"the moving part"


async def write_video(catalog: Catalog, owner: UUID) -> StoredFile:
    return stored(await begin(catalog, owner, FileKind.MOTION), MOTION)


async def link_new_video(catalog: Catalog, photo: Asset) -> tuple[UUID | None, StoredFile]:
    file = await write_video(catalog, photo.owner_id)
    new = new_asset(photo.owner_id, file.sha1, type=AssetType.VIDEO)
    return await catalog.motion_photo_videos.link_video(photo.id, new, file), file


async def test_it_becomes_a_hidden_video_that_goes_with_the_photo(catalog: Catalog) -> None:
    user = await make_user(catalog, quota=100)
    photo = await upload(catalog, user.id, size=100)

    video_id, file = await link_new_video(catalog, photo)

    assert video_id is not None
    video = await catalog.assets.get(video_id)
    shown = await catalog.assets.get(photo.id)
    assert video is not None
    assert shown is not None
    assert shown.live_photo_video_id == video_id
    assert (video.visibility, video.file.id, video.file.kind) == (Visibility.HIDDEN, file.file_id, FileKind.MOTION)
    assert (await task_of(catalog, video)).kind is TaskKind.VIDEO
    assert await used_bytes(catalog, user.id) == 100
    (usage,) = await catalog.counts.get_usage_by_user()
    assert (usage.usage, usage.used) == (100, 100)
    await catalog.assets.delete(user.id, [photo.id])
    assert set((await file_states(catalog)).values()) == {FileState.DOOMED}
    assert await used_bytes(catalog, user.id) == 0


async def test_of_many_that_take_it_out_one_wins(catalog: Catalog) -> None:
    photo = await upload(catalog, (await make_user(catalog)).id)

    results = await asyncio.gather(*(link_new_video(catalog, photo) for _ in range(6)))

    (winner,) = [file.file_id for video_id, file in results if video_id]
    again, _ = await link_new_video(catalog, photo)
    assert again is None
    live = {file_id for file_id, state in (await file_states(catalog)).items() if state is FileState.LIVE}
    assert live == {photo.file.id, winner}


async def test_a_video_that_is_there_already_is_shown(catalog: Catalog) -> None:
    user = await make_user(catalog)
    video = await upload(catalog, user.id, content=MOTION, type=AssetType.VIDEO)
    one, two = await upload(catalog, user.id), await upload(catalog, user.id)

    results = [await link_new_video(catalog, one), await link_new_video(catalog, two)]

    assert [video_id for video_id, _ in results] == [video.id, video.id]
    found = await file_states(catalog)
    assert {found[file.file_id] for _, file in results} == {FileState.DOOMED}
    hidden = await catalog.assets.get(video.id)
    assert hidden is not None
    assert hidden.visibility is Visibility.HIDDEN


@pytest.mark.parametrize("wrong", ["photo", "lease", "content"])
async def test_what_cannot_be_added_is_doomed(catalog: Catalog, wrong: str) -> None:
    user = await make_user(catalog)
    photo = await upload(catalog, user.id)
    file = await write_video(catalog, user.id)
    if wrong == "lease":
        await catalog.files.mark_for_deletion(file.file_id)
    elif wrong == "content":
        await upload(catalog, user.id, content=MOTION)  # as a photo
    new = new_asset(user.id, file.sha1, type=AssetType.VIDEO)
    error = {"photo": NotFound, "lease": WriteLeaseLost, "content": ConstraintViolation}[wrong]

    with pytest.raises(error):
        await catalog.motion_photo_videos.link_video(uuid4() if wrong == "photo" else photo.id, new, file)

    assert (await file_states(catalog))[file.file_id] is FileState.DOOMED
    assert await catalog.assets.get(photo.id) == photo
