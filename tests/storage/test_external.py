"""External files: read-only, and never a mixture of two versions."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.storage.backend import CHUNK_BYTES
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable, StoragePermission
from app.storage.external import ExternalFiles
from app.storage.ranges import ByteRange
from tests.storage.guarantees.content import pattern

DATA = pattern(3 * CHUNK_BYTES + 5)


@pytest.fixture
async def external() -> AsyncIterator[ExternalFiles]:
    files = ExternalFiles()
    yield files
    await files.aclose()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "my photo #1.jpg"
    path.write_bytes(DATA)
    os.utime(path, (1e9, 1e9))  # so that an edit changes the time, however coarse the file system's clock is
    return path


async def _read(external: ExternalFiles, path: Path, byte_range: ByteRange | None = None) -> bytes:
    async with external.read_stream(str(path), byte_range) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


async def test_whole_and_by_range(external: ExternalFiles, photo: Path) -> None:
    assert await _read(external, photo) == DATA
    assert await _read(external, photo, ByteRange(7, CHUNK_BYTES + 7)) == DATA[7 : CHUNK_BYTES + 8]
    assert (await external.head(str(photo))).size == len(DATA)
    with pytest.raises(RangeNotSatisfiable):
        await _read(external, photo, ByteRange(len(DATA)))


@pytest.mark.parametrize("edit", ["append", "overwrite", "truncate"])
async def test_an_edit_in_place_ends_the_read_short(external: ExternalFiles, photo: Path, edit: str) -> None:
    read = bytearray()

    async def read_on() -> None:
        async with external.read_stream(str(photo)) as stream:
            async for chunk in stream.chunks:
                if not read:
                    _edit(photo, edit)
                read.extend(chunk)

    with pytest.raises(ObjectChanged):
        await read_on()
    assert 0 < len(read) < len(DATA)


async def test_a_file_that_is_replaced_or_deleted_is_read_to_its_end(external: ExternalFiles, photo: Path) -> None:
    (photo.parent / "new").write_bytes(b"new")
    read = bytearray()
    async with external.read_stream(str(photo)) as stream:
        async for chunk in stream.chunks:
            if not read:
                (photo.parent / "new").rename(photo)
            read.extend(chunk)
    assert read == DATA
    assert await _read(external, photo) == b"new"


async def test_if_match_tells_an_edited_file(external: ExternalFiles, photo: Path) -> None:
    seen = (await external.head(str(photo))).etag
    _edit(photo, "overwrite")
    with pytest.raises(ObjectChanged):
        async with external.read_stream(str(photo), if_match=seen):
            pytest.fail("the read was opened")


@pytest.mark.parametrize("kind", ["missing", "folder", "FIFO", "device", "below a file", "dangling link"])
async def test_what_is_no_regular_file_is_not_there(
    external: ExternalFiles, tmp_path: Path, photo: Path, kind: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    path = {
        "missing": tmp_path / "missing",
        "folder": tmp_path / "folder",
        "FIFO": tmp_path / "fifo",
        "device": Path("/dev/zero"),
        "below a file": photo / "below",
        "dangling link": tmp_path / "link",
    }[kind]
    with pytest.raises(ObjectNotFound) as failure:
        await _read(external, path)
    assert (failure.value.key, failure.value.backend) == (str(path), "external")
    assert not await external.exists(str(path))


async def test_a_link_is_followed(external: ExternalFiles, tmp_path: Path, photo: Path) -> None:
    (tmp_path / "link").symlink_to(photo)
    assert await _read(external, tmp_path / "link") == DATA


def test_writing_is_refused(external: ExternalFiles) -> None:
    with pytest.raises(StoragePermission):
        external.refuse_write("/photos/1.jpg")


def _edit(path: Path, how: str) -> None:
    if how == "truncate":
        os.truncate(path, CHUNK_BYTES + 1)
        return
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END if how == "append" else os.SEEK_SET)
        file.write(b"edited")


@pytest.mark.parametrize(
    ("name", "target", "read"),
    [
        ("photo.jpg", None, True),
        ("link.jpg", "photo.jpg", True),
        ("folder/link.jpg", "../photo.jpg", True),
        ("out.jpg", "../secret.jpg", False),
        ("beside.jpg", "../root-other/x.jpg", False),
    ],
)
async def test_links_lead_nowhere_but_inside_their_library(
    external: ExternalFiles, tmp_path: Path, name: str, target: str | None, read: bool
) -> None:
    root = tmp_path / "root"
    for folder in ("root/folder", "root-other"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("root/photo.jpg", "secret.jpg", "root-other/x.jpg"):
        (tmp_path / file).write_bytes(DATA)
    if target is not None:
        (root / name).symlink_to(target)
    external.set_link_roots([str(root)])
    if read:
        assert await _read(external, root / name) == DATA
    else:
        with pytest.raises(ObjectNotFound):
            await _read(external, root / name)


async def test_folders_that_became_links_are_no_way_out(external: ExternalFiles, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/photo.jpg").write_bytes(DATA)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/album").symlink_to(tmp_path / "elsewhere")
    external.set_link_roots([str(tmp_path / "root")])
    with pytest.raises(ObjectNotFound):
        await _read(external, tmp_path / "root/album/photo.jpg")
