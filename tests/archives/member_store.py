"""Storage and catalogue of archive members in memory; they record their calls and fail on demand."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from app.archives.manifest import Manifest, ManifestEntry
from app.archives.read_ahead import ReadAheadBudget
from app.archives.stream import ArchiveSource, LostMemberCounter
from app.archives.zip_layout import ZipLayout
from app.catalog.database.outage import OutageLog
from app.catalog.schema.records import File, FileKind, FileState
from app.storage.backend import ObjectInfo, ObjectStream
from app.storage.errors import ObjectNotFound, RangeNotSatisfiable
from app.storage.ranges import ByteRange

NOON = datetime(2024, 5, 6, 12, 34, 57, tzinfo=UTC)
CHUNK = 1000


@dataclass
class MemberStore:
    """Paths that begin with `/` are local, those with `/library/` also external; all others are in S3. `before_chunk` is called before each
    chunk with the path and the bytes yielded so far; it may raise or wait."""

    objects: dict[str, bytes] = field(default_factory=dict)
    files: dict[UUID, File] = field(default_factory=dict)
    kept: list[tuple[UUID, int]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    lookups: int = 0
    before_chunk: Callable[[str, int], object] | None = None
    keep_error: Exception | None = None

    def put(self, path: str, content: bytes) -> UUID:
        """Add an asset whose file is at `path`; returns its id."""
        asset_id = uuid4()
        self.objects[path] = content
        self.files[asset_id] = File(
            id=uuid4(),
            owner_id=uuid4(),
            kind=FileKind.ORIGINAL,
            path=path,
            state=FileState.LIVE,
            size=len(content),
            sha1=hashlib.sha1(content).digest(),
            crc32=zlib.crc32(content),
            mime_type="image/jpeg",
            created_at=NOON,
            not_before=NOON,
        )
        return asset_id

    def move(self, asset_id: UUID, path: str) -> None:
        file = self.files[asset_id]
        self.objects[path] = self.objects.pop(file.path)
        self.files[asset_id] = replace(file, path=path)

    def manifest(self, asset_ids: Iterable[UUID], *, unknown: frozenset[UUID] = frozenset()) -> Manifest:
        entries = []
        for number, asset_id in enumerate(asset_ids):
            file = self.files[asset_id]
            crc32 = None if asset_id in unknown else file.crc32
            entries.append(
                ManifestEntry(asset_id, FileKind.ORIGINAL, f"{number}.jpg", file.size or 0, crc32, NOON, file.sha1)
            )
        return Manifest(tuple(entries))

    def source(self, manifest: Manifest, ahead: ReadAheadBudget | None = None) -> ArchiveSource:
        return ArchiveSource(
            layout=ZipLayout([entry.to_zip_entry() for entry in manifest.entries]),
            manifest=manifest,
            file_lookup=self,
            crc32_store=self,
            storage=self,
            read_ahead=ahead or ReadAheadBudget(),
            lost_members=LostMemberCounter(),
            filename="some.zip",
            last_modified=NOON,
            outages=OutageLog("shelf"),
        )

    async def get_original_files(self, asset_ids: Iterable[UUID]) -> Mapping[UUID, File]:
        self.lookups += 1
        await asyncio.sleep(0)
        return {asset_id: self.files[asset_id] for asset_id in asset_ids if asset_id in self.files}

    async def store_crc32(self, file_id: UUID, sha1: bytes | None, crc32: int) -> None:
        if self.keep_error is not None:
            raise self.keep_error
        self.kept.append((file_id, crc32))

    def local_path(self, path: str) -> object | None:
        return path if path.startswith("/") else None

    def is_managed_path(self, path: str) -> bool:
        return not path.startswith("/library/")

    @asynccontextmanager
    async def read(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AsyncGenerator[ObjectStream]:
        await asyncio.sleep(0)
        content = self.objects.get(path)
        if content is None:
            raise ObjectNotFound(path, "shelf")
        if byte_range is not None and byte_range.first >= len(content):
            raise RangeNotSatisfiable(path, "shelf", len(content))
        served = (byte_range or ByteRange(0)).clamp(len(content))
        self.opened.append(path)
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            info = ObjectInfo(path, len(content), NOON, "etag")
            yield ObjectStream(info, served, self._chunks(path, content, served))
        finally:
            self.open_now -= 1

    async def _chunks(self, path: str, content: bytes, served: ByteRange | None) -> AsyncIterator[bytes]:
        if served is None or served.last is None:
            return
        for start in range(served.first, served.last + 1, CHUNK):
            if self.before_chunk is not None:
                waiting = self.before_chunk(path, start - served.first)
                if asyncio.iscoroutine(waiting):
                    await waiting
            await asyncio.sleep(0)
            yield content[start : min(start + CHUNK, served.last + 1)]


async def read_archive(source: ArchiveSource, byte_range: ByteRange | None = None) -> bytes:
    """All bytes of `source`, or of a range of it."""
    async with source.read(byte_range) as chunks:
        return b"".join([chunk async for chunk in chunks])
