"""Reads of foreign files that have a copy: from the preferred place, and from the other one when that one is away, also in the middle."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from app.config import StorageEngine
from app.storage import foreign_reads
from app.storage.backend import CHUNK_BYTES
from app.storage.errors import (
    CopyLookupFailed,
    ObjectChanged,
    ObjectNotFound,
    RangeNotSatisfiable,
    StorageUnavailable,
)
from app.storage.local import file_windows
from app.storage.local.file_reader import OpenFile
from app.storage.local.file_windows import FileWindows
from app.storage.ranges import ByteRange, FileWindow
from app.storage.service import StorageService
from app.storage.staging import Staging
from tests.real.disk_folders import disk_folder
from tests.storage.guarantees.content import pattern
from tests.storage.test_service import TwoLocations

DATA = pattern(3 * CHUNK_BYTES + 5)
OTHER = bytes(len(DATA))
PieceT = TypeVar("PieceT", bytes, bytes | FileWindow)


class FailInTheMiddle(Protocol):
    def __call__(self, pieces: AsyncIterator[PieceT]) -> AsyncIterator[PieceT]: ...


class CopiedFile:
    """A foreign file whose copy holds other bytes of the same size, so that a test sees which one was read."""

    def __init__(self, locations: TwoLocations, root: Path, storage: StorageService) -> None:
        self.locations = locations
        self.root = root
        self.storage = storage
        self.source = root / "1.jpg"
        self.copy = locations.in_bucket("upload/a/copy.jpg")
        self.lookups = 0
        self.is_catalog_away = False

    async def find(self, path: str) -> tuple[str, int] | None:
        self.lookups += 1
        if self.is_catalog_away:
            raise CopyLookupFailed(path, "catalog")
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
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if "on_disk" not in request.fixturenames:
        yield tmp_path
        return
    with disk_folder(tmp_path) as folder:
        yield folder


@pytest.fixture
def on_disk() -> None:
    """For windows, which not every file system has."""


@pytest.fixture
async def copied(preferred: str, base: Path) -> AsyncIterator[CopiedFile]:
    locations = TwoLocations(base, StorageEngine.S3)
    storage = StorageService(
        local=locations.disk,
        media_root=locations.media,
        s3=locations.store,
        bucket="photos",
        prefix="vault",
        engine=StorageEngine.S3,
        staging=Staging(base / "other-staging", 2**24),
        prefers_copies=preferred == "s3",
    )
    root = base / "immich"
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


@pytest.fixture
def fail_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> FailInTheMiddle:
    """Iterates over the chunks or windows of a read. The place of the first one goes away after it."""
    monkeypatch.setattr(file_windows, "WINDOW_BYTES", CHUNK_BYTES)

    async def iterate(pieces: AsyncIterator[PieceT]) -> AsyncIterator[PieceT]:
        is_first = True
        async for piece in pieces:
            yield piece
            if is_first:
                fail_once()
            is_first = False

    def fail_once() -> None:
        kinds = {kind: kind.__anext__ for kind in (OpenFile, FileWindows)}

        async def fail(file: OpenFile | FileWindows) -> bytes:
            for kind, read_next in kinds.items():
                monkeypatch.setattr(kind, "__anext__", read_next)
            raise StorageUnavailable(file.key, file.backend, "is away")

        for kind in kinds:
            monkeypatch.setattr(kind, "__anext__", fail)

    return iterate


async def stage(copied: CopiedFile) -> bytes:
    async with copied.storage.stage_to_temp(str(copied.source), size=len(DATA)) as staged:
        return await asyncio.to_thread(staged.read_bytes)


def content_of(piece: bytes | FileWindow) -> bytes:
    return piece if isinstance(piece, bytes) else os.pread(piece.file.fileno(), piece.length, piece.offset)


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
    copied: CopiedFile, preferred: str, fail_in_the_middle: FailInTheMiddle
) -> None:
    async with copied.storage.read(str(copied.source), ByteRange(7)) as stream:
        read = b"".join([chunk async for chunk in fail_in_the_middle(stream.chunks)])
    first, second = of(preferred), of(preferred, is_away=True)
    assert read == first[7 : 7 + CHUNK_BYTES] + second[7 + CHUNK_BYTES :]


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("preferred", ["s3"], ids=["prefers-the-copy"])
async def test_the_other_place_takes_over_between_windows(
    copied: CopiedFile, preferred: str, fail_in_the_middle: FailInTheMiddle
) -> None:
    async with copied.storage.read(str(copied.source), ByteRange(7)) as stream:
        assert stream.windows is not None
        read = b"".join([content_of(piece) async for piece in fail_in_the_middle(stream.windows)])
    first, second = of(preferred), of(preferred, is_away=True)
    assert read == first[7 : 7 + CHUNK_BYTES] + second[7 + CHUNK_BYTES :]


async def test_a_source_that_was_changed_after_the_copy_is_not_joined_to_it(
    copied: CopiedFile, preferred: str, fail_in_the_middle: FailInTheMiddle
) -> None:
    """Both have the same size, so that only the times tell."""
    copy = await copied.storage.stat(copied.copy)
    edited_at = copy.last_modified.timestamp() + 1.5
    os.utime(copied.source, (edited_at, edited_at))
    async with copied.storage.read(str(copied.source)) as stream:
        chunks = fail_in_the_middle(stream.chunks)
        assert await anext(chunks) == of(preferred)[:CHUNK_BYTES]
        with pytest.raises(StorageUnavailable):
            await anext(chunks)


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


@pytest.mark.parametrize("preferred", ["s3"], ids=["prefers-the-copy"])
async def test_a_failed_lookup_is_not_remembered(copied: CopiedFile) -> None:
    copied.is_catalog_away = True
    assert await copied.read() == DATA, "the source is read meanwhile"
    copied.is_catalog_away = False
    assert await copied.read() == OTHER


@pytest.mark.parametrize("preferred", ["s3"], ids=["prefers-the-copy"])
async def test_a_known_copy_is_used_while_lookups_fail(copied: CopiedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_reads, "LOOKUP_SECONDS", 0.0)
    assert await copied.read() == OTHER
    copied.is_catalog_away = True
    assert await copied.read() == OTHER
    assert copied.lookups == 2


@pytest.mark.parametrize("preferred", ["local"], ids=["prefers-the-disk"])
async def test_a_file_whose_copy_could_not_be_looked_up_is_not_reported_missing(copied: CopiedFile) -> None:
    (copied.root / "1.jpg").unlink()
    copied.is_catalog_away = True
    for attempt in (copied.read, lambda: copied.storage.stat(str(copied.source)), lambda: stage(copied)):
        with pytest.raises(StorageUnavailable):
            await attempt()
    copied.is_catalog_away = False
    assert await copied.read() == OTHER


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
    assert await stage(copied) == DATA
    await copied.take_away("disk")
    assert await stage(copied) == OTHER
