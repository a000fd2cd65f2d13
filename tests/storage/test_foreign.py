"""Foreign files: read where they lie without following links, and never written, wherever their root lies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.config import StorageEngine
from app.storage import external
from app.storage.backend import CHUNK_BYTES
from app.storage.errors import ObjectChanged, ObjectNotFound, StoragePermission, StorageUnavailable
from app.storage.local import syscalls
from app.storage.ranges import ByteRange
from app.storage.service import StorageService
from tests.real.hanging_file_systems import mount_hanging_file_system
from tests.storage.guarantees.content import pattern
from tests.storage.test_service import TwoLocations

DATA = pattern(2 * CHUNK_BYTES + 5)


@pytest.fixture
async def locations(tmp_path: Path) -> AsyncIterator[TwoLocations]:
    locations = TwoLocations(tmp_path, StorageEngine.LOCAL)
    yield locations
    await locations.storage.aclose()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "immich"
    (root / "upload").mkdir(parents=True)
    (root / "upload" / "1.jpg").write_bytes(DATA)
    return root


@pytest.fixture(params=["openat2", "folder by folder"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder by folder":
        monkeypatch.setattr(syscalls, "_syscall", None)
    return request.param


async def read(storage: StorageService, path: Path, byte_range: ByteRange | None = None) -> bytes:
    async with storage.read(str(path), byte_range) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


@pytest.mark.usefixtures("opener")
async def test_whole_by_range_and_staged(locations: TwoLocations, root: Path) -> None:
    storage, path = locations.storage, root / "upload" / "1.jpg"
    storage.set_foreign_roots([str(root)])
    assert await read(storage, path) == DATA
    assert await read(storage, path, ByteRange(7, CHUNK_BYTES + 7)) == DATA[7 : CHUNK_BYTES + 8]
    assert (await storage.stat(str(path))).size == len(DATA)
    async with storage.stage_to_temp(str(path), size=len(DATA)) as staged:
        assert await asyncio.to_thread(staged.read_bytes) == DATA
    with pytest.raises(ObjectChanged):
        async with storage.stage_to_temp(str(path), size=len(DATA) - 1):
            pytest.fail("a file of another size was staged")


@pytest.mark.usefixtures("opener")
@pytest.mark.parametrize("kind", ["file", "folder", "inside"])
async def test_no_link_is_followed(locations: TwoLocations, root: Path, kind: str) -> None:
    outside = locations.base / "secret"
    outside.mkdir()
    (outside / "1.jpg").write_bytes(b"secret")
    link = {"file": root / "link.jpg", "folder": root / "link", "inside": root / "inside.jpg"}[kind]
    link.symlink_to({"file": outside / "1.jpg", "folder": outside, "inside": root / "upload" / "1.jpg"}[kind])
    locations.storage.set_foreign_roots([str(root)])
    with pytest.raises(ObjectNotFound):
        await read(locations.storage, link / "1.jpg" if kind == "folder" else link)


@pytest.mark.usefixtures("opener")
@pytest.mark.parametrize("kind", ["folder", "FIFO", "missing"])
async def test_what_is_no_regular_file_is_not_there(locations: TwoLocations, root: Path, kind: str) -> None:
    os.mkfifo(root / "fifo")
    locations.storage.set_foreign_roots([str(root)])
    path = {"folder": root / "upload", "FIFO": root / "fifo", "missing": root / "2.jpg"}[kind]
    with pytest.raises(ObjectNotFound):
        await read(locations.storage, path)


@pytest.mark.parametrize("state", ["missing", "empty", "a link"])
async def test_a_root_that_is_not_mounted_is_unavailable(locations: TwoLocations, tmp_path: Path, state: str) -> None:
    """Not "not found": the photos are not lost. Another root is not affected."""
    gone, there = tmp_path / "gone", tmp_path / "there"
    there.mkdir()
    (there / "1.jpg").write_bytes(b"there")
    if state == "empty":
        gone.mkdir()
    elif state == "a link":
        gone.symlink_to(there)
    locations.storage.set_foreign_roots([str(gone), str(there)])
    with pytest.raises(StorageUnavailable, match="not mounted"):
        await read(locations.storage, gone / "1.jpg")
    assert await read(locations.storage, there / "1.jpg") == b"there"


async def test_a_root_that_hangs_keeps_nobody_else_waiting(
    locations: TwoLocations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "CALL_TIMEOUT_SECONDS", 1.0)
    there = tmp_path / "there"
    there.mkdir()
    (there / "1.jpg").write_bytes(b"there")
    with mount_hanging_file_system(tmp_path / "hanging", {"a/1.jpg": b"hung"}) as disk:
        storage = locations.storage
        storage.set_foreign_roots([str(disk.mount), str(there)])
        assert await read(storage, disk.mount / "a" / "1.jpg") == b"hung"
        disk.hang()
        waiting = asyncio.create_task(read(storage, disk.mount / "a" / "1.jpg"))
        for _ in range(20):
            assert await read(storage, there / "1.jpg") == b"there"
        assert not waiting.done()
        with pytest.raises(StorageUnavailable, match="answer"):
            await waiting
        with pytest.raises(StorageUnavailable, match="answer"):
            await storage.check_foreign_root(str(disk.mount))
        disk.answer()
        assert await read(storage, disk.mount / "a" / "1.jpg") == b"hung"


async def test_nothing_below_a_root_is_written_even_inside_the_media_location(locations: TwoLocations) -> None:
    """The media location of another program may have become ours by a mistake in the settings."""
    storage = locations.storage
    path = locations.on_disk("upload/a/1.jpg")
    async with storage.write(path) as writer:
        await writer.write(b"ours")
    before = await asyncio.to_thread(os.stat, path)
    storage.set_foreign_roots([str(locations.media)])

    assert await read(storage, Path(path)) == b"ours"
    assert not storage.is_managed_path(path)
    with pytest.raises(StoragePermission):
        storage.write(path)
    with pytest.raises(StoragePermission):
        storage.write(locations.on_disk("upload/a/2.jpg"))
    with pytest.raises(StoragePermission):
        await storage.unlink(path)
    with pytest.raises(StoragePermission):
        await storage.rename(path, locations.in_bucket("upload/a/1.jpg"))
    with pytest.raises(StoragePermission):
        await storage.copy(locations.external("1.jpg"), locations.on_disk("upload/a/3.jpg"))
    with pytest.raises(StoragePermission):
        await storage.utimes(path, datetime.now(UTC), datetime.now(UTC))
    assert list(await storage.unlink_many([path])) == [path]
    assert await asyncio.to_thread(os.stat, path) == before
    assert os.listdir(locations.on_disk("upload/a")) == ["1.jpg"]  # noqa: PTH208 - shorter
