"""A real catalogue (SQLite) and a real media folder to upload into, with hooks at each step that may fail."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.schema.records import Asset, File, FileState, User
from app.config import Settings
from app.storage.backend import ObjectWriter
from app.storage.digests import UpdateDigest
from app.storage.service import StorageService
from app.uploads.body_stream import Receive
from app.uploads.ingest import UploadIngest
from app.uploads.upload_result import UploadResult
from tests.uploads.forms import CONTENT_TYPE, FormPart, Upload, body, split_at

Hook = Callable[[str], Awaitable[None]]
WAIT_SECONDS = 120.0


async def nothing(_path: str) -> None:
    return


class HookedStorage:
    """The real storage with hooks, called with the path before each write, and before and after each commit."""

    def __init__(self, real: StorageService) -> None:
        self._real = real
        self.on_write: Hook = nothing
        self.on_commit: Hook = nothing
        self.after_commit: Hook = nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @asynccontextmanager
    async def write(
        self,
        path: str,
        *,
        size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[ObjectWriter]:
        async with self._real.write(path, size=size, content_type=content_type, metadata=metadata) as writer:
            yield _HookedWriter(writer, path, self)
            await self.on_commit(path)
        await self.after_commit(path)


class _HookedWriter:
    def __init__(self, real: ObjectWriter, path: str, storage: HookedStorage) -> None:
        self._real = real
        self._path = path
        self._storage = storage

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        await self._storage.on_write(self._path)
        await self._real.write(data, update_digest)

    @property
    def size(self) -> int:
        return self._real.size


@dataclass
class UploadSender:
    """An ASGI `receive`: returns `chunks`, then a disconnect, unless the body was complete or the client `stays`."""

    chunks: Iterable[bytes]
    complete: bool = True
    stays: bool = False
    calls: int = 0
    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._left = iter(self.chunks)

    async def __call__(self) -> dict[str, Any]:
        self.calls += 1
        chunk = next(self._left, None)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        if self.complete:
            return {"type": "http.request", "body": b"", "more_body": False}
        self.stalled.set()
        if self.stays:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}


@dataclass
class UploadTarget:
    catalog: Catalog
    storage: HookedStorage
    settings: Settings
    user: User
    media: Path
    on_asset_added: Callable[[UUID], None] | None = None

    def ingest(self, **changes: object) -> UploadIngest:
        """`changes` are settings by field name."""
        settings = self.settings.model_copy(update=changes)
        storage = cast("StorageService", self.storage)
        return UploadIngest(self.catalog, storage, settings, on_asset_added=self.on_asset_added)

    async def send(
        self, parts: Iterable[FormPart] | bytes, *, checksum: str | None = None, length: bool = True, **changes: object
    ) -> UploadResult:
        """Upload these parts, or this body, in chunks as from a server. Without `length`, of which the server does not tell how long the body is,
        files are streamed to the storage as they arrive."""
        whole = parts if isinstance(parts, bytes) else body(parts)
        sender = UploadSender(split_at(whole, range(0, len(whole), 65536)))
        return await self.receive(sender, len(whole) if length else None, checksum=checksum, **changes)

    async def receive(
        self, receive: Receive, length: int | None = None, *, checksum: str | None = None, **changes: object
    ) -> UploadResult:
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.ingest(**changes).upload(self.user, CONTENT_TYPE, length, checksum, receive)

    async def asset(self, outcome: UploadResult) -> Asset:
        asset = await self.catalog.assets.get(outcome.asset_id)
        assert asset is not None
        return asset

    async def rows(self) -> list[File]:
        return [row async for row in self.catalog.files.iterate_all()]

    def objects(self) -> dict[str, bytes]:
        """Every file below the media folder, including temporary ones."""
        return {str(path): path.read_bytes() for path in sorted(self.media.rglob("*")) if path.is_file()}

    async def sweep(self, after: timedelta) -> None:
        """Sweep as of `after` from now."""
        claimed = await self.catalog.files.claim_sweepable(datetime.now(UTC) + after, 1000)
        failed = await self.storage.unlink_many([row.path for row in claimed])
        assert not failed
        await self.catalog.files.delete_swept(claimed)

    async def assert_kept(self, *kept: Upload, after: timedelta = timedelta(0)) -> None:
        """Sweep, then assert that exactly these files exist in catalogue and storage, complete, live and counted in the quota."""
        await self.sweep(after)
        rows = await self.rows()
        objects = self.objects()
        assert {row.state for row in rows} <= {FileState.LIVE}
        assert {row.path for row in rows} == set(objects)
        assert sorted(objects.values()) == sorted(one.data for one in kept)
        for row in rows:
            data = objects[row.path]
            assert (row.size, row.sha1, row.crc32) == (len(data), hashlib.sha1(data).digest(), zlib.crc32(data))
        owner = await self.catalog.users.get(self.user.id)
        assert owner is not None
        assert owner.used == sum(len(one.data) for one in kept)
