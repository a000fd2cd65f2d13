"""Reads of foreign files that have a copy: from the preferred place, and from the other one when that one is away, also in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.config import StorageEngine
from app.storage import foreign_reads
from app.storage.backend import CHUNK_BYTES
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable, StorageUnavailable
from app.storage.local.file_reader import OpenFile
from app.storage.ranges import ByteRange
from app.storage.service import StorageService
from app.storage.staging import Staging
from tests.storage.guarantees.content import pattern
from tests.storage.test_service import TwoLocations

DATA = pattern(3 * CHUNK_BYTES + 5)
OTHER = bytes(len(DATA))


class CopiedFile:
    """A foreign file whose copy holds other bytes of the same size, so that a test sees which one was read."""

    def __init__(self, locations: TwoLocations, root: Path, storage: StorageService) -> None:
        self.locations = locations
        self.root = root
        self.storage = storage
        self.source = root / "1.jpg"
        self.copy = locations.in_bucket("upload/a/copy.jpg")
        self.lookups = 0

    async def find(self, path: str) -> tuple[str, int] | None:
        self.lookups += 1
        return (self.copy, len(DATA)) if path == str(self.source) else None

    async def read(self, byte_range: ByteRange | None = None, path: Path | None = None) -> bytes:
        async with self.storage.read(str(path or self.source), byte_range) as stream:
            return b"".join([chunk async for chunk in stream.chunks])

    async def take_away(self, place: str) -> None:
        if place == "disk":
            await asyncio.to_thread(self.root.rename, self.root.with_name("away"))
        else:
            await self.locations.storage.unlink(self.copy)


@pytest.fixture(params=["local", "s3"])
def preferred(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def copied(preferred: str, tmp_path: Path) -> AsyncIterator[CopiedFile]:
    locations = TwoLocations(tmp_path, StorageEngine.S3)
    storage = StorageService(
        local=locations.disk,
        media_root=locations.media,
        s3=locations.store,
        bucket="photos",
        prefix="vault",
        engine=StorageEngine.S3,
        staging=Staging(tmp_path / "other-staging", 2**24),
        prefers_copies=preferred == "s3",
    )
    root = tmp_path / "immich"
    root.mkdir()
    copied = CopiedFile(locations, root, storage)
    copied.source.write_bytes(DATA)
    (root / "2.jpg").write_bytes(b"not copied")
    async with locations.storage.write(copied.copy, size=len(OTHER)) as writer:
        await writer.write(OTHER)
    await storage.staging.open()
    storage.set_foreign_roots([str(root)])
    storage.set_copy_lookup(copied.find)
    yield copied
    await storage.aclose()


def of(preferred: str, *, is_away: bool = False) -> bytes:
    return DATA if (preferred == "local") is not is_away else OTHER


async def test_the_preferred_place_is_read_and_asked_for_once(copied: CopiedFile, preferred: str) -> None:
    assert await copied.read() == of(preferred)
    assert await copied.read(ByteRange(5, 9)) == of(preferred)[5:10]
    assert copied.lookups == 1
    assert await copied.read(path=copied.root / "2.jpg") == b"not copied"
    with pytest.raises(RangeNotSatisfiable):
        await copied.read(ByteRange(len(DATA)))


async def test_the_other_place_takes_over(copied: CopiedFile, preferred: str) -> None:
    await copied.take_away("disk" if preferred == "local" else "bucket")
    assert await copied.read() == of(preferred, is_away=True)
    assert (await copied.storage.stat(str(copied.source))).size == len(DATA)


async def test_the_other_place_takes_over_in_the_middle(
    copied: CopiedFile, preferred: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bytearray()
    read_next = OpenFile.__anext__

    async def fail_once(file: OpenFile) -> bytes:
        monkeypatch.setattr(OpenFile, "__anext__", read_next)
        raise StorageUnavailable(file.key, file.backend, "is away")

    async with copied.storage.read(str(copied.source), ByteRange(7)) as stream:
        async for chunk in stream.chunks:
            read += chunk
            if len(read) == len(chunk):
                monkeypatch.setattr(OpenFile, "__anext__", fail_once)
    first, second = of(preferred), of(preferred, is_away=True)
    assert bytes(read) == first[7 : 7 + CHUNK_BYTES] + second[7 + CHUNK_BYTES :]


@pytest.mark.parametrize("preferred", ["local"], ids=["prefers-the-disk"])
async def test_another_version_at_the_source_is_not_sent(copied: CopiedFile) -> None:
    await asyncio.to_thread(copied.source.write_bytes, b"another version")
    assert await copied.read() == OTHER
    assert await copied.read(ByteRange(len(DATA) - 3)) == OTHER[-3:]
    await copied.take_away("bucket")
    with pytest.raises(ObjectChanged):
        await copied.read()


async def test_while_one_place_is_away_a_file_is_not_reported_missing(copied: CopiedFile) -> None:
    await copied.take_away("disk")
    await copied.take_away("bucket")
    with pytest.raises(StorageUnavailable):
        await copied.read()
    with pytest.raises(StorageUnavailable):
        await copied.storage.stat(str(copied.source))
    await asyncio.to_thread(copied.root.mkdir)
    await asyncio.to_thread((copied.root / "2.jpg").write_bytes, b"mounted")
    with pytest.raises(ObjectNotFound):
        await copied.read()


@pytest.mark.parametrize("preferred", ["local"], ids=["prefers-the-disk"])
async def test_a_place_that_is_away_is_tried_last_for_a_time(
    copied: CopiedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds, read_next in ((0.0, DATA), (foreign_reads.AWAY_SECONDS, OTHER)):
        monkeypatch.setattr(foreign_reads, "AWAY_SECONDS", seconds)
        await copied.take_away("disk")
        assert await copied.read() == OTHER
        await asyncio.to_thread(copied.root.with_name("away").rename, copied.root)
        assert await copied.read() == read_next


@pytest.mark.parametrize("preferred", ["local"], ids=["prefers-the-disk"])
async def test_a_tool_is_given_the_copy(copied: CopiedFile) -> None:
    path = str(copied.source)
    async with copied.storage.stage_to_temp(path, size=len(DATA)) as staged:
        assert await asyncio.to_thread(staged.read_bytes) == DATA
    await copied.take_away("disk")
    async with copied.storage.stage_to_temp(path, size=len(DATA)) as staged:
        assert await asyncio.to_thread(staged.read_bytes) == OTHER
