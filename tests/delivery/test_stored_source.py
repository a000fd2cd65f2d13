"""`StoredSource` over real storage on disk."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.config import StorageEngine
from app.delivery.stored_source import StoredSource, build_etag
from app.storage.errors import ObjectChanged, ObjectNotFound
from app.storage.key import Key
from app.storage.local import LocalBackend
from app.storage.ranges import ByteRange, ByteSource
from app.storage.service import StorageService
from app.storage.staging import Staging

CONTENT = bytes(range(256)) * 3000


@dataclass(frozen=True)
class Disk:
    storage: StorageService
    root: Path

    async def store(self, content: bytes) -> StoredSource:
        path = self.storage.managed_path(Key("upload/photo.jpg"))
        async with self.storage.write(path) as writer:
            await writer.write(content)
        sha1 = hashlib.sha1(content).digest()
        moment = datetime(2024, 2, 29, tzinfo=UTC)
        return StoredSource(self.storage, path, len(content), build_etag(sha1), moment, "image/jpeg", "photo.jpg")


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    backend = LocalBackend(tmp_path, fsync=False)
    storage = StorageService(
        local=backend,
        media_root=tmp_path,
        s3=None,
        bucket=None,
        prefix="",
        engine=StorageEngine.LOCAL,
        staging=Staging(tmp_path / "staging", 1024 * 1024),
    )
    yield Disk(storage, tmp_path)
    await storage.aclose()


async def bytes_of(source: ByteSource, byte_range: ByteRange | None) -> bytes:
    async with source.read(byte_range) as chunks:
        return b"".join([chunk async for chunk in chunks])


def test_the_etag_is_strong_and_tells_the_content() -> None:
    assert build_etag(hashlib.sha1(b"").digest()) == '"da39a3ee5e6b4b0d3255bfef95601890afd80709"'
    assert build_etag(hashlib.sha1(b"a").digest()) != build_etag(hashlib.sha1(b"b").digest())


@pytest.mark.parametrize(
    "part", [None, ByteRange(0, 0), ByteRange(5, 300_000), ByteRange(len(CONTENT) - 1, len(CONTENT) - 1)]
)
async def test_reads_what_is_stored(disk: Disk, part: ByteRange | None) -> None:
    source = await disk.store(CONTENT)
    expected = CONTENT if part is None else CONTENT[part.first : part.first + part.length]
    assert await bytes_of(source, part) == expected


async def test_an_empty_file(disk: Disk) -> None:
    assert await bytes_of(await disk.store(b""), None) == b""


@pytest.mark.parametrize("part", [None, ByteRange(0, 9), ByteRange(len(CONTENT) - 10, len(CONTENT) - 1)])
@pytest.mark.parametrize("difference", [-1, 1, -len(CONTENT)])
async def test_another_size_than_the_catalogues_is_a_change(
    disk: Disk, part: ByteRange | None, difference: int
) -> None:
    source = await disk.store(CONTENT[:difference] if difference < 0 else CONTENT + b"x")
    stale = replace(source, size=len(CONTENT))
    with pytest.raises(ObjectChanged):
        await bytes_of(stale, part)


async def test_a_missing_file_shows_on_opening(disk: Disk) -> None:
    source = await disk.store(CONTENT)
    await disk.storage.unlink(source.path)
    with pytest.raises(ObjectNotFound):
        async with source.read(None):
            pass
