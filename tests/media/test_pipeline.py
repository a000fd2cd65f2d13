"""The processing pipeline on both stacks, with real photos and videos: derivatives are made and swapped in, and no object lacks a row after
failures, concurrency or cancellation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base
from sqlalchemy import delete

from app.catalog import tasks
from app.catalog.database.engine import now
from app.catalog.schema import tables
from app.catalog.schema.records import FileKind, Task, Visibility
from app.config import Settings
from app.formats import MediaFormat
from app.media.errors import DecodeFailed, MediaError, WorkerCrashed
from app.media.processing_results import GeneratedFile, MetadataResult, ProcessingResult
from app.media.processor import MediaProcessor
from app.storage.errors import StorageUnavailable
from tests.media.photo_files import encode_jpeg, make_quarters
from tests.media.processing_stack import ProcessingStack, open_processing_stack
from tests.real.sample_media import make_jpeg, make_motion_photo, make_video
from tests.real.stacks import ENGINES, Engine, Stacks

THUMBNAIL, PREVIEW, VIDEO = FileKind.THUMBNAIL, FileKind.PREVIEW, FileKind.ENCODED_VIDEO
CANCELLATIONS = 6


@pytest.fixture(params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    return request.param


@pytest.fixture(scope="module")
async def processor() -> AsyncIterator[MediaProcessor]:
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    async with MediaProcessor(settings).running() as processor:
        yield processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture
async def place(
    stack: Engine, stacks: Stacks, tmp_path: Path, processor: MediaProcessor
) -> AsyncIterator[ProcessingStack]:
    async with open_processing_stack(stacks.create(stack, tmp_path / "place"), tmp_path, processor) as place:
        yield place


async def test_a_photo_gets_its_pictures_and_is_read_once(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_jpeg(1600, 1200)
    asset, task = await place.keep(data, "IMG_1.JPG")
    read = count_reads(place, asset.file.path, monkeypatch)

    await place.pipeline().process(task)

    made = await place.made(asset)
    assert set(made) == {THUMBNAIL, PREVIEW}
    assert made[THUMBNAIL].startswith(b"RIFF")
    assert made[THUMBNAIL][8:12] == b"WEBP"
    assert made[PREVIEW].startswith(b"\xff\xd8\xff")
    found = await place.catalog.assets.get(asset.id)
    assert found is not None
    assert (found.width, found.height) == (1600, 1200)
    assert found.thumbhash
    assert found.exif is not None
    assert found.file_created_at == asset.file_created_at
    assert read[0] <= 1.05 * len(data)
    for kind, derivative in (await place.catalog.derivatives.get_for_asset(asset.id)).items():
        assert (
            f"/thumbs/{place.user.id}/{str(asset.id)[:2]}/{str(asset.id)[2:4]}/{asset.id}_{kind}_"
            in derivative.file.path
        )
    await place.check()


async def test_metadata_is_stored_also_without_a_picture(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "2021:02:03 04:05:06"
    exif[Base.Make] = "Camera Works"
    asset, task = await place.keep(encode_jpeg(make_quarters(), exif=exif), "IMG_1.JPG")

    async def fails(source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        raise DecodeFailed("it is broken")

    monkeypatch.setattr(place.processor, "make_images", fails)
    with pytest.raises(DecodeFailed, match="it is broken"):
        await place.pipeline().process(task)
    found = await place.catalog.assets.get(asset.id)
    assert found is not None
    assert found.exif is not None
    assert found.exif["make"] == "Camera Works"
    assert found.file_created_at == found.local_date_time == datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC)
    await place.check()


async def test_pictures_are_stored_also_without_metadata(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, task = await place.keep(make_jpeg(), "IMG_1.JPG")

    async def crashes(source: Path, format: MediaFormat, sidecar: Path | None = None) -> MetadataResult:
        raise WorkerCrashed("it crashed")

    monkeypatch.setattr(place.processor, "read_metadata", crashes)
    with pytest.raises(WorkerCrashed):
        await place.pipeline().process(task)
    assert set(await place.made(asset)) == {THUMBNAIL, PREVIEW}
    monkeypatch.undo()
    await place.pipeline().process(task)
    found = await place.catalog.assets.get(asset.id)
    assert found is not None
    assert found.exif is not None
    await place.check()


async def test_a_video_gets_its_poster_before_it_is_transcoded(
    place: ProcessingStack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_video(folder)
    asset, task = await place.keep(data, "clip.mp4")
    read = count_reads(place, asset.file.path, monkeypatch)
    before: dict[FileKind, bytes] = {}
    make_playable = place.processor.make_playable

    async def watched(source: Path, format: MediaFormat, folder: Path) -> GeneratedFile | None:
        before.update(await place.made(asset))
        return await make_playable(source, format, folder)

    monkeypatch.setattr(place.processor, "make_playable", watched)
    await place.pipeline().process(task)

    assert set(before) == {THUMBNAIL, PREVIEW}
    made = await place.made(asset)
    assert set(made) == {THUMBNAIL, PREVIEW, VIDEO}
    assert made[VIDEO][4:8] == b"ftyp"
    found = await place.catalog.assets.get(asset.id)
    assert found is not None
    assert (found.width, found.height, found.duration) == (160, 120, 1000)
    assert read[0] <= 1.05 * len(data)
    encoded = (await place.catalog.derivatives.get_for_asset(asset.id))[VIDEO].file
    assert f"/encoded-video/{place.user.id}/" in encoded.path
    await place.check()


async def test_a_video_that_browsers_play_is_left_as_it_is(place: ProcessingStack, folder: Path) -> None:
    asset, task = await place.keep(make_video(folder, playable=True), "clip.mp4")
    await place.pipeline().process(task)
    assert set(await place.made(asset)) == {THUMBNAIL, PREVIEW}
    await place.check()


async def test_again_makes_nothing_and_on_request_everything(place: ProcessingStack) -> None:
    asset, task = await place.keep(make_jpeg(), "a.jpg")
    pipeline = place.pipeline()
    await pipeline.process(task)
    first = await files_of(place, asset.id)

    await pipeline.process(task)
    assert await files_of(place, asset.id) == first

    await pipeline.process(await place.requested_again(task))
    second = await files_of(place, asset.id)
    assert set(second) == set(first)
    assert not set(second.values()) & set(first.values())
    await place.check()


async def test_two_workers_at_once_leave_one_set(place: ProcessingStack) -> None:
    asset, task = await place.keep(make_jpeg(), "a.jpg")
    await asyncio.gather(*(place.pipeline().process(task) for _ in range(3)))
    assert set(await place.made(asset)) == {THUMBNAIL, PREVIEW}
    await place.check()


async def test_the_video_inside_a_photo_is_taken_out_once(place: ProcessingStack, folder: Path) -> None:
    data, part = make_motion_photo(folder)
    asset, task = await place.keep(data, "PXL_1.MP.jpg")

    await asyncio.gather(*(place.pipeline().process(task) for _ in range(2)))
    await place.pipeline().process(await place.requested_again(task))

    photo = await place.catalog.assets.get(asset.id)
    assert photo is not None
    assert photo.live_photo_video_id is not None
    shown = await place.catalog.assets.get(photo.live_photo_video_id)
    assert shown is not None
    assert shown.visibility is Visibility.HIDDEN
    assert shown.file.path.endswith(f"{shown.id}-MP.mp4")
    async with place.storage.read(shown.file.path) as stream:
        assert b"".join([bytes(chunk) async for chunk in stream.chunks]) == part
    video_task = await place.catalog.tasks.get_for_asset(shown.id)
    assert video_task is not None
    await place.pipeline().process(video_task)
    assert set(await place.made(shown)) == {THUMBNAIL, PREVIEW}
    await place.check()
    await place.catalog.assets.delete(place.user.id, [asset.id])
    assert await place.catalog.assets.get(shown.id) is None
    await place.check()
    assert not any("/upload/" in path or "/encoded-video/" in path for path in real_objects(place))


async def test_a_photo_that_shows_a_video_already_keeps_it(place: ProcessingStack, folder: Path) -> None:
    own, _ = await place.keep(make_video(folder, playable=True), "own.mp4")
    asset, task = await place.keep(make_motion_photo(folder)[0], "a.jpg")
    await place.catalog.assets.update(place.user.id, asset.id, {"live_photo_video_id": own.id})
    await place.pipeline().process(task)
    photo = await place.catalog.assets.get(asset.id)
    assert photo is not None
    assert photo.live_photo_video_id == own.id
    await place.check()


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4"])
async def test_what_is_neither_photo_nor_video_leaves_nothing(place: ProcessingStack, name: str) -> None:
    asset, task = await place.keep(random.randbytes(5000), name)
    with pytest.raises(MediaError) as failure:
        await place.pipeline().process(task)
    assert failure.value.reason
    assert not failure.value.retryable
    assert await place.made(asset) == {}
    await place.check()


async def test_an_asset_that_goes_meanwhile_takes_everything_along(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, task = await place.keep(make_jpeg(), "a.jpg")
    make_images = place.processor.make_images

    async def slow(source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        made = await make_images(source, format, folder)
        await place.catalog.assets.delete(place.user.id, [asset.id])
        return made

    monkeypatch.setattr(place.processor, "make_images", slow)
    await place.pipeline().process(task)
    await place.pipeline().process(task)
    await place.check()
    assert not any("/thumbs/" in path for path in real_objects(place))


async def test_what_was_made_of_content_that_changed_meanwhile_is_dropped(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, task = await place.keep(make_jpeg(), "a.jpg")
    make_images = place.processor.make_images

    async def slow(source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        made = await make_images(source, format, folder)
        async with place.catalog.database.write() as connection:  # as a scan does that finds changed content
            await connection.execute(delete(tables.task).where(tables.task.c.asset_id == asset.id))
            await tasks.add_tasks(connection, [(asset.id, asset.type)], now())
        return made

    monkeypatch.setattr(place.processor, "make_images", slow)
    await place.pipeline().process(task)
    assert await place.made(asset) == {}
    await place.check()
    monkeypatch.undo()
    again = await place.catalog.tasks.get_for_asset(asset.id)
    assert again is not None
    await place.pipeline().process(again)
    assert set(await place.made(asset)) == {THUMBNAIL, PREVIEW}
    await place.check()


async def test_a_store_that_goes_away_leaves_nothing_unaccounted_for(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, task = await place.keep(make_jpeg(), "a.jpg")
    send, sent = place.storage.upload_from_temp, 0

    async def fails_second(temp: Path, path: str, **options: Any) -> Any:
        nonlocal sent
        sent += 1
        if sent == 2:
            raise StorageUnavailable(path, "test", "is away")
        return await send(temp, path, **options)

    monkeypatch.setattr(place.storage, "upload_from_temp", fails_second)
    with pytest.raises(StorageUnavailable):
        await place.pipeline().process(task)
    assert await place.made(asset) == {}
    await place.check(swept=False)
    monkeypatch.undo()
    await place.pipeline().process(task)
    assert set(await place.made(asset)) == {THUMBNAIL, PREVIEW}
    await place.check()


async def test_cancelled_at_any_moment_it_leaves_nothing_unaccounted_for(
    place: ProcessingStack, folder: Path, seed: int
) -> None:
    dice = random.Random(seed)
    photo, photo_task = await place.keep(make_motion_photo(folder)[0], "a.jpg")
    clip, clip_task = await place.keep(make_video(folder), "a.mp4")
    for _ in range(CANCELLATIONS):
        for task in (photo_task, clip_task):
            await cancelled_after(place, task, dice.uniform(0, 0.6))
            await place.check(swept=False)
    await place.pipeline().process(photo_task)
    await place.pipeline().process(clip_task)
    assert set(await place.made(photo)) == {THUMBNAIL, PREVIEW}
    assert set(await place.made(clip)) == {THUMBNAIL, PREVIEW, VIDEO}
    await place.check()


async def cancelled_after(place: ProcessingStack, task: Task, seconds: float) -> None:
    work = asyncio.create_task(place.pipeline().process(task))
    await asyncio.wait([work], timeout=seconds)
    work.cancel()
    await asyncio.wait([work], timeout=20)
    assert work.done()


async def files_of(place: ProcessingStack, asset_id: Any) -> dict[FileKind, Any]:
    return {kind: made.file.id for kind, made in (await place.catalog.derivatives.get_for_asset(asset_id)).items()}


def real_objects(place: ProcessingStack) -> list[str]:
    """All stored objects except the markers."""
    return [path for path in place.stack.objects() if not path.endswith(".immich")]


def count_reads(place: ProcessingStack, path: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the bytes of objects that are read from the store for this path from now on; returns a list of one number."""
    read, count = place.storage.read, [0]

    @asynccontextmanager
    async def counted(read_path: str, *arguments: Any) -> AsyncIterator[Any]:
        async with read(read_path, *arguments) as stream:
            if read_path == path:
                count[0] += stream.info.size
            yield stream

    monkeypatch.setattr(place.storage, "read", counted)
    return count
