"""Processing of originals in an external library whose owner renames and edits files meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from app.catalog.schema.library_records import Library
from app.catalog.schema.records import FileKind, Task
from app.config import Settings
from app.libraries.scanning.scan import LibraryScan
from app.media.errors import DecodeFailed
from app.media.extracted_properties import get_damage
from app.media.processor import MediaProcessor
from app.storage.errors import StorageUnavailable
from tests.media.processing_stack import ProcessingStack, open_processing_stack
from tests.media.sidecar_files import make_sidecar
from tests.real.hanging_file_systems import mount_hanging_file_system
from tests.real.sample_media import make_jpeg, make_motion_photo
from tests.real.stacks import ENGINES, Engine, Stacks
from tests.real.waiting import eventually_so


@pytest.fixture(params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    return request.param


@pytest.fixture
async def place(stack: Engine, stacks: Stacks, tmp_path: Path) -> AsyncIterator[ProcessingStack]:
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    async with (
        MediaProcessor(settings).running() as processor,
        open_processing_stack(stacks.create(stack, tmp_path / "place"), tmp_path, processor) as place,
    ):
        yield place


@pytest.fixture
async def library(place: ProcessingStack, tmp_path: Path) -> Library:
    """A library with two photos: one landscape, one portrait."""
    nas = tmp_path / "nas"
    nas.mkdir()
    (nas / "lying.jpg").write_bytes(make_jpeg(400, 300))
    (nas / "standing.jpg").write_bytes(make_jpeg(300, 400))
    library = await place.catalog.libraries.create(place.user.id, "NAS", (str(nas),), ())
    await scan(place, library)
    return library


async def scan(place: ProcessingStack, library: Library) -> None:
    with ThreadPoolExecutor(1) as threads:
        await LibraryScan(place.catalog, library, threads).run()


async def task_of(place: ProcessingStack, name: str) -> Task:
    assets, _ = await place.catalog.assets.get_page(place.user.id, limit=10)
    (asset_id,) = (asset.id for asset in assets if asset.original_file_name == name)
    task = await place.catalog.tasks.get_for_asset(asset_id)
    assert task is not None
    return task


async def shape_of(place: ProcessingStack, asset_id: UUID) -> tuple[int | None, int | None]:
    asset = await place.catalog.assets.get(asset_id)
    assert asset is not None
    return asset.width, asset.height


async def test_an_empty_file_is_shown_with_what_is_wrong_until_it_has_content(
    place: ProcessingStack, library: Library
) -> None:
    """As in Immich, an empty file (a copy that failed, or has just begun) has an asset, and two empty files are not taken for duplicates."""
    nas = Path(library.import_paths[0])
    (nas / "copied.jpg").touch()
    (nas / "copied too.jpg").touch()
    await scan(place, library)
    task = await task_of(place, "copied.jpg")
    assert (await task_of(place, "copied too.jpg")).asset_id != task.asset_id
    with pytest.raises(DecodeFailed, match=r"^the file is empty$"):
        await place.pipeline().process(task)
    (nas / "copied.jpg").write_bytes(make_jpeg(40, 30))
    await scan(place, library)
    await place.pipeline().process(await task_of(place, "copied.jpg"))
    assert await shape_of(place, task.asset_id) == (40, 30)


async def test_no_pictures_are_made_of_another_file_that_has_the_name_for_now(
    place: ProcessingStack, library: Library
) -> None:
    task = await task_of(place, "lying.jpg")
    nas = Path(library.import_paths[0])
    (nas / "lying.jpg").rename(nas / "aside")
    (nas / "standing.jpg").rename(nas / "lying.jpg")
    (nas / "aside").rename(nas / "standing.jpg")
    with pytest.raises(StorageUnavailable):
        await place.pipeline().process(task)
    assert await place.catalog.derivatives.get_for_asset(task.asset_id) == {}
    await scan(place, library)
    await place.pipeline().process(task)
    assert set(await place.catalog.derivatives.get_for_asset(task.asset_id)) >= {FileKind.THUMBNAIL, FileKind.PREVIEW}
    assert await shape_of(place, task.asset_id) == (400, 300)


async def test_nothing_is_kept_that_was_made_while_the_names_changed(
    place: ProcessingStack, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await task_of(place, "lying.jpg")
    nas = Path(library.import_paths[0])
    pipeline, make_images = place.pipeline(), place.processor.make_images

    async def renamed_meanwhile(*arguments: object) -> object:
        (nas / "standing.jpg").rename(nas / "lying.jpg")
        return await make_images(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(place.processor, "make_images", renamed_meanwhile)
    with pytest.raises(StorageUnavailable):
        await pipeline.process(task)
    assert await place.catalog.derivatives.get_for_asset(task.asset_id) == {}


async def test_a_task_waits_for_a_disk_that_does_not_answer(
    place: ProcessingStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.external.CALL_TIMEOUT_SECONDS", 0.2)
    with mount_hanging_file_system(tmp_path / "share", {"photo.jpg": make_jpeg(400, 300)}) as disk:
        library = await place.catalog.libraries.create(place.user.id, "Share", (str(disk.mount),), ())
        await scan(place, library)
        task = await task_of(place, "photo.jpg")
        disk.hang()
        for _ in range(6):
            with pytest.raises(StorageUnavailable, match="does not answer"):
                await place.pipeline().process(task)
        assert await place.catalog.derivatives.get_for_asset(task.asset_id) == {}
        assert not list(place.staging.rglob("*.jpg"))
        disk.answer()

        async def processed() -> bool:
            with suppress(StorageUnavailable):
                await place.pipeline().process(task)
            return FileKind.THUMBNAIL in await place.catalog.derivatives.get_for_asset(task.asset_id)

        await eventually_so(processed, "it is processed when the disk answers")


@pytest.mark.parametrize("fault", ["gone", "led out of the library"])
async def test_a_sidecar_that_cannot_be_read_is_told_until_the_next_scan(
    place: ProcessingStack, library: Library, tmp_path: Path, fault: str
) -> None:
    """The photo is processed as without it, and nothing outside of the library is read."""
    path = tmp_path / "nas/lying.xmp"
    path.write_bytes(make_sidecar())
    await scan(place, library)
    task = await task_of(place, "lying.jpg")
    path.unlink()
    (tmp_path / "secret.xmp").write_bytes(make_sidecar(5, "secret"))
    if fault != "gone":
        path.symlink_to(tmp_path / "secret.xmp")
    place.storage.set_external_link_roots([str(tmp_path / "nas")])

    await place.pipeline().process(task)

    asset = await place.catalog.assets.get(task.asset_id)
    assert asset is not None
    assert asset.sidecar_error == "it is missing"
    assert "secret" not in str(asset.exif)
    assert set(await place.made(asset)) == {FileKind.THUMBNAIL, FileKind.PREVIEW}

    path.unlink(missing_ok=True)
    await scan(place, library)
    await place.pipeline().process(await task_of(place, "lying.jpg"))
    asset = await place.catalog.assets.get(task.asset_id)
    assert asset is not None
    assert (asset.sidecar_error, asset.file_created_at) == (None, asset.file_modified_at)
    await place.check()


async def test_damage_is_told_until_a_whole_copy_comes(
    place: ProcessingStack, library: Library, tmp_path: Path
) -> None:
    photo, sidecar = tmp_path / "nas/lying.jpg", tmp_path / "nas/lying.xmp"
    whole = photo.read_bytes()
    told: list[str | None] = []
    for path, content in ((photo, whole[:-10]), (sidecar, make_sidecar()), (photo, whole)):
        path.write_bytes(content)
        await scan(place, library)
        task = await task_of(place, "lying.jpg")
        await place.pipeline().process(task)
        asset = await place.catalog.assets.get(task.asset_id)
        assert asset is not None
        told.append(get_damage(asset))
    assert told == ["its last bytes are missing", "its last bytes are missing", None]


async def test_the_clip_of_a_replaced_motion_photo_goes_with_it(
    place: ProcessingStack, library: Library, tmp_path: Path
) -> None:
    photo = tmp_path / "nas/lying.jpg"
    plain = photo.read_bytes()
    moving, clip = make_motion_photo(tmp_path)
    other_clip = clip + b"\0\0\0\x0cfree" + bytes(4)
    clips: list[tuple[UUID, bytes] | None] = []
    for content in (moving, moving + other_clip[len(clip) :], plain):
        photo.write_bytes(content)
        await scan(place, library)
        task = await task_of(place, "lying.jpg")
        await place.pipeline().process(task)
        clips.append(await clip_of(place, task.asset_id))

    first, second, none = clips
    assert first is not None
    assert second is not None
    assert (first[1], second[1], none) == (clip, other_clip, None)
    assert [await place.catalog.assets.get(video_id) for video_id, _ in (first, second)] == [None, None]
    await place.check()


async def clip_of(place: ProcessingStack, photo_id: UUID) -> tuple[UUID, bytes] | None:
    photo = await place.catalog.assets.get(photo_id)
    assert photo is not None
    if photo.live_photo_video_id is None:
        return None
    video = await place.catalog.assets.get(photo.live_photo_video_id)
    assert video is not None
    async with place.storage.read(video.file.path) as stream:
        return video.id, b"".join([bytes(chunk) async for chunk in stream.chunks])
