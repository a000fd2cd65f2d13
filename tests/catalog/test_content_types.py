"""Correction of an asset's type after its content was read."""

from __future__ import annotations

from app.catalog.catalog import Catalog
from app.catalog.schema.records import Asset, AssetType, TaskKind, Visibility
from tests.catalog.rows import make_user, upload


async def correct(catalog: Catalog, asset: Asset, type_: AssetType, mime_type: str) -> Asset:
    task = await catalog.tasks.get_for_asset(asset.id)
    assert task is not None
    assert await catalog.content_types.correct(asset, type_, mime_type, task.id)
    corrected = await catalog.assets.get(asset.id)
    assert corrected is not None
    return corrected


async def test_a_video_that_is_a_photo(catalog: Catalog) -> None:
    """No photo shows it any more, and it is visible again."""
    user = await make_user(catalog)
    video = await upload(catalog, user.id, type=AssetType.VIDEO, duration=1000)
    photo = await upload(catalog, user.id, live_photo_video_id=video.id)
    corrected = await correct(catalog, video, AssetType.IMAGE, "image/jpeg")
    assert (corrected.type, corrected.file.mime_type, corrected.duration) == (AssetType.IMAGE, "image/jpeg", None)
    assert corrected.visibility is Visibility.TIMELINE
    unlinked = await catalog.assets.get(photo.id)
    assert unlinked is not None
    assert unlinked.live_photo_video_id is None
    task = await catalog.tasks.get_for_asset(video.id)
    assert task is not None
    assert task.kind is TaskKind.IMAGE


async def test_a_photo_that_is_a_video(catalog: Catalog) -> None:
    user = await make_user(catalog)
    shown = await upload(catalog, user.id, type=AssetType.VIDEO)
    photo = await upload(catalog, user.id, live_photo_video_id=shown.id)
    corrected = await correct(catalog, photo, AssetType.VIDEO, "video/mp4")
    assert (corrected.type, corrected.live_photo_video_id) == (AssetType.VIDEO, None)
    unhidden = await catalog.assets.get(shown.id)
    assert unhidden is not None
    assert unhidden.visibility is Visibility.TIMELINE


async def test_nothing_changes_after_the_task_was_replaced(catalog: Catalog) -> None:
    """The original has changed meanwhile, so what was read of it counts no more."""
    user = await make_user(catalog)
    photo, other = [await upload(catalog, user.id) for _ in range(2)]
    task = await catalog.tasks.get_for_asset(other.id)
    assert task is not None
    assert not await catalog.content_types.correct(photo, AssetType.VIDEO, "video/mp4", task.id)
    assert await catalog.assets.get(photo.id) == photo
