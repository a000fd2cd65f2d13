"""A path in an external library is replaced by a symbolic link during processing (TOCTOU): content from outside must not appear."""

from __future__ import annotations

import asyncio
import io
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from app.catalog.schema.records import FileKind
from app.formats import MediaFormat, find_format
from app.libraries.scanning.scan import LibraryScan
from app.media.processing_results import CropBox, ProcessingResult
from app.media.processor import MediaProcessor
from app.media.range_extraction import extract_range
from app.storage.errors import StorageError
from app.storage.external import ExternalFiles
from tests.media import photo_files
from tests.media.photo_files import GREY, RED, assert_corners, make_quarters
from tests.media.processing_stack import ProcessingStack, open_processing_stack
from tests.media.video_files import AAC, H264, QUARTERED, make_video
from tests.real.notes import Note
from tests.real.stacks import Stacks

SECRET = (GREY, GREY, RED, RED)
SECONDS, SOAK_SECONDS = 4.0, 60.0
PREVIEWS = 3
"""Number of previews that must be made meanwhile."""
PHOTOS = [
    photo_format
    for photo_format in photo_files.FORMATS
    if photo_format.extension in (".jpg", ".gif", ".tiff", ".heic", ".avif", ".jxl", ".psd")
]


def named(extension: str) -> MediaFormat:
    format = find_format(f"x{extension}")
    assert format is not None
    return format


class LinkSwap:
    """A file in an import path. After it is opened, its path becomes a symbolic link to a file outside."""

    def __init__(self, folder: Path, extension: str, inside: bytes, outside: bytes) -> None:
        self.path = folder / "nas" / f"original{extension}"
        self.path.parent.mkdir()
        self.path.write_bytes(inside)
        self._secret = folder / f"secret{extension}"
        self._secret.write_bytes(outside)
        self._files = ExternalFiles()
        self._files.set_link_roots([str(self.path.parent)])

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Path]:
        async with self._files.open_descriptor_path(str(self.path), self.path.stat().st_size) as source:
            self.path.unlink()
            self.path.symlink_to(self._secret)
            assert self.path.read_bytes() == self._secret.read_bytes()
            yield source
        await self._files.aclose()


def preview_of(made: ProcessingResult) -> Image.Image:
    (path,) = (product.path for product in made.files if product.kind is FileKind.PREVIEW)
    with Image.open(path) as image:
        image.load()
        return image


@pytest.mark.parametrize("photo_format", PHOTOS, ids=lambda photo_format: photo_format.extension)
async def test_a_photo_is_that_which_was_opened(
    processor: MediaProcessor, folder: Path, tmp_path: Path, photo_format: photo_files.ExpectedCorners
) -> None:
    for name, colours in (("inside", photo_files.CORNERS), ("outside", SECRET)):
        photo_format.write(make_quarters(colours=colours), tmp_path / f"{name}{photo_format.extension}")
    inside, outside = ((tmp_path / f"{name}{photo_format.extension}").read_bytes() for name in ("inside", "outside"))
    async with LinkSwap(tmp_path, photo_format.extension, inside, outside).opened() as source:
        made = await processor.make_images(source, named(photo_format.extension), folder)
        assert_corners(preview_of(made), within=photo_format.within)
        box = CropBox(left=60, top=60, right=160, bottom=160, image_width=640, image_height=480)
        person = await processor.make_person_thumbnail(source, named(photo_format.extension), box, folder)
        with Image.open(person.path) as square:
            assert_corners(square, (RED,) * 4, within=photo_format.within)


async def test_a_raw_file_is_that_which_was_opened(processor: MediaProcessor, folder: Path, tmp_path: Path) -> None:
    inside = photo_files.encode_dng(make_quarters(320, 240), preview=make_quarters(320, 240))
    outside = photo_files.encode_dng(make_quarters(320, 240), preview=make_quarters(320, 240, colours=SECRET))
    async with LinkSwap(tmp_path, ".dng", inside, outside).opened() as source:
        made = await processor.make_images(source, named(".dng"), folder)
        assert_corners(preview_of(made))
        assert (await processor.read_metadata(source, named(".dng"))).metadata.make == "Camera Works"


async def test_a_moving_part_is_that_of_the_file_which_was_opened(
    processor: MediaProcessor, folder: Path, tmp_path: Path
) -> None:
    video, other = make_video(".mp4"), make_video(".mp4", seconds=2)
    photo = photo_files.encode_jpeg(make_quarters())
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    xmp += '<rdf:Description xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MicroVideo="1"'
    xmp += f' GCamera:MicroVideoOffset="{len(video)}"/></rdf:RDF></x:xmpmeta>'
    photo = photo_files.encode_jpeg(make_quarters(), xmp=xmp.encode())
    async with LinkSwap(
        tmp_path, ".jpg", photo + video, photo_files.encode_jpeg(make_quarters()) + other
    ).opened() as source:
        part = await processor.find_motion_video(source, named(".jpg"))
        assert part is not None
        await extract_range(source, part, folder / "motion.mp4")
    assert (folder / "motion.mp4").read_bytes() == video


async def test_a_video_is_that_which_was_opened(processor: MediaProcessor, folder: Path, tmp_path: Path) -> None:
    """Poster and encoded video both come from the opened file."""
    options = ("-c:v", "mpeg4", "-q:v", "2", *AAC)
    inside, outside = make_video(".avi", *options, picture=QUARTERED), make_video(".avi", *options, seconds=3)
    async with LinkSwap(tmp_path, ".avi", inside, outside).opened() as source:
        poster = await processor.make_poster(source, named(".avi"), folder)
        assert_corners(preview_of(poster), within=12)
        assert (poster.width, poster.height) == (640, 480)
        playable = await processor.make_playable(source, named(".avi"), folder)
    assert playable is not None
    assert_corners(preview_of(await processor.make_poster(playable.path, named(".mp4"), folder)), within=12)


async def test_a_remuxed_video_is_that_which_was_opened(
    processor: MediaProcessor, folder: Path, tmp_path: Path
) -> None:
    inside, outside = make_video(".mkv", *H264, *AAC, picture=QUARTERED), make_video(".mkv", *H264, *AAC, seconds=3)
    async with LinkSwap(tmp_path, ".mkv", inside, outside).opened() as source:
        playable = await processor.make_playable(source, named(".mkv"), folder)
    assert playable is not None
    assert_corners(preview_of(await processor.make_poster(playable.path, named(".mp4"), folder)), within=12)


async def test_previews_made_while_a_link_is_turned_round_and_round(
    processor: MediaProcessor, stacks: Stacks, tmp_path: Path, soak: bool, seed: int, note: Note
) -> None:
    """The files inside and outside have the same size and time, so that only the pictures show which one was read."""
    nas = tmp_path / "nas"
    for folder in (nas / ".kept", tmp_path / "secret"):
        folder.mkdir(parents=True)
    inside, outside = photo_files.encode_jpeg(make_quarters()), photo_files.encode_jpeg(make_quarters(colours=SECRET))
    size = max(len(inside), len(outside))
    for path, data in ((nas / ".kept" / "photo.jpg", inside), (tmp_path / "secret" / "photo.jpg", outside)):
        path.write_bytes(data.ljust(size, b"\0"))
        os.utime(path, (10**9, 10**9))
    links = [nas / ".kept" / "photo.jpg", tmp_path / "secret" / "photo.jpg"]
    (nas / "photo.jpg").symlink_to(links[0])
    async with open_processing_stack(stacks.create("local", tmp_path / "place"), tmp_path, processor) as place:
        place.storage.set_external_link_roots([str(nas)])
        asset_id = await scanned(place, nas)
        made = refused = 0
        end = time.monotonic() + (SOAK_SECONDS if soak else SECONDS)
        with swap_links(nas / "photo.jpg", links, random.Random(seed)) as swaps:
            async with asyncio.timeout(SOAK_SECONDS * 2):
                while time.monotonic() < end or made < PREVIEWS:
                    (task,) = await place.catalog.tasks.request_for(place.user.id, [asset_id])
                    try:
                        await place.pipeline().process(task)
                    except StorageError:
                        refused += 1
                        continue
                    assert_corners(await preview(place, asset_id))
                    made += 1
        note(
            f"{made} previews made and {refused} tasks put off while a link was swapped {swaps[0]} times (seed {seed})"
        )
        assert swaps[0] > made


async def scanned(place: ProcessingStack, nas: Path) -> UUID:
    library = await place.catalog.libraries.create(place.user.id, "NAS", (str(nas),), ())
    with ThreadPoolExecutor(1) as threads:
        await LibraryScan(place.catalog, library, threads).run()
    (asset,), _ = await place.catalog.assets.get_page(place.user.id, limit=10)
    return asset.id


async def preview(place: ProcessingStack, asset_id: UUID) -> Image.Image:
    made = await place.catalog.derivatives.get_for_asset(asset_id)
    async with place.storage.read(made[FileKind.PREVIEW].file.path) as stream:
        return Image.open(io.BytesIO(b"".join([bytes(chunk) async for chunk in stream.chunks])))


@contextmanager
def swap_links(link: Path, targets: list[Path], chance: random.Random) -> Iterator[list[int]]:
    """Swap path and link at random moments, in a thread, until the end of the block; yields a list with the number of swaps."""
    stopped, swaps = threading.Event(), [0]
    other = link.with_name(".turning")

    def swap_repeatedly() -> None:
        while not stopped.wait(chance.choice((0, 0.001, 0.01, 0.03))):
            other.symlink_to(targets[swaps[0] % 2])
            other.rename(link)
            swaps[0] += 1

    thread = threading.Thread(target=swap_repeatedly)
    thread.start()
    try:
        yield swaps
    finally:
        stopped.set()
        thread.join()
        with suppress(FileNotFoundError):
            other.unlink()
