"""A real catalogue and a real storage with upload sessions on them, and clients that send their bytes."""

from __future__ import annotations

import asyncio
import hashlib
import random
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, FileState, User
from app.catalog.schema.upload_records import Upload
from app.config import Settings
from app.jobs.sweeper import sweep
from app.storage.opening import open_storage
from app.storage.service import StorageService
from app.uploads.sessions.service import UploadSessions
from app.uploads.sessions.session_values import (
    ChunkDigest,
    NewUpload,
    UploadCaller,
    UploadChunk,
    UploadProtocol,
    UploadStatus,
)
from app.uploads.sessions.upload_sweeper import MAX_ENDED_UPLOADS, sweep_uploads
from tests.real.stacks import Engine, Stack, Stacks
from tests.uploads.hooked_storage import UploadSender

DATES = {"fileCreatedAt": "2026-05-01T10:00:00.000Z", "fileModifiedAt": "2026-05-01T10:00:00.000Z"}
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01"
WAIT_SECONDS = 60.0
PERMISSION = "asset.upload"


def make_photo(size: int, seed: int = 0) -> bytes:
    """Bytes that begin like a JPEG file."""
    return (JPEG + random.Random(seed).randbytes(max(size - len(JPEG), 0)))[:size]


def make_user() -> User:
    moment = datetime.now(UTC)
    return User(uuid4(), "a@example.org", "A", False, None, 0, None, moment, moment)


class Client:
    """An ASGI `receive` that a test feeds. `wanted` is set while the service waits for more."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.wanted = asyncio.Event()

    def send(self, data: bytes, *, is_last: bool = False) -> None:
        self.wanted.clear()
        self._messages.put_nowait({"type": "http.request", "body": data, "more_body": not is_last})

    async def __call__(self) -> dict[str, Any]:
        if self._messages.empty():
            self.wanted.set()
        return await self._messages.get()

    async def wait(self) -> None:
        """Wait until the service has taken all bytes."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self.wanted.wait()


@dataclass(frozen=True)
class Process:
    """What one process of the service holds: nothing is shared with others but the database and the store."""

    catalog: Catalog
    storage: StorageService
    sessions: UploadSessions


@dataclass
class SessionPlace:
    stack: Stack
    settings: Settings
    user: User
    caller: UploadCaller
    processes: list[Process]
    _opened: AsyncExitStack

    @property
    def catalog(self) -> Catalog:
        return self.processes[0].catalog

    @property
    def sessions(self) -> UploadSessions:
        return self.processes[0].sessions

    async def add_process(self, **changes: Any) -> Process:
        """Another process on the same database and store. `changes` are settings by field name."""
        settings = self.settings.model_copy(update=changes)
        catalog = await open_catalog(self.stack.db_url, upgrade=False)
        self._opened.push_async_callback(catalog.aclose)
        storage = await open_storage(settings)
        self._opened.push_async_callback(storage.aclose)
        sessions = UploadSessions(catalog, storage, settings)
        await self._opened.enter_async_context(sessions.running())
        process = Process(catalog, storage, sessions)
        self.processes.append(process)
        return process

    async def create(self, length: int | None, *, sha1: bytes | None = None, **fields: str) -> UploadStatus:
        new = NewUpload(
            UploadProtocol.TUS, length, {**DATES, **fields}, "raw text", declared_sha1=sha1, filename="holiday.jpg"
        )
        return await self.sessions.create(self.caller, new)

    async def send(
        self,
        upload_id: UUID,
        offset: int,
        data: bytes,
        *,
        process: Process | None = None,
        breaks_after: int | None = None,
        length: int | None = None,
        is_last: bool | None = None,
        digest: ChunkDigest | None = None,
    ) -> UploadStatus:
        """One request with these bytes. `breaks_after`: the connection breaks after so many of them."""
        sent = data if breaks_after is None else data[:breaks_after]
        sender = UploadSender(split(sent), complete=breaks_after is None)
        chunk = UploadChunk(offset, len(data), is_last, length, digest)
        sessions = (process or self.processes[0]).sessions
        async with asyncio.timeout(WAIT_SECONDS):
            return await sessions.append(self.caller, upload_id, chunk, sender)

    def begin(
        self, upload_id: UUID, offset: int, client: Client, process: Process | None = None
    ) -> asyncio.Task[UploadStatus]:
        """One request whose body the test sends bit by bit."""
        sessions = (process or self.processes[0]).sessions
        return asyncio.create_task(sessions.append(self.caller, upload_id, UploadChunk(offset), client))

    async def status(self, upload_id: UUID, process: Process | None = None) -> UploadStatus:
        async with asyncio.timeout(WAIT_SECONDS):
            return await (process or self.processes[0]).sessions.get_status(self.caller, upload_id)

    async def row(self, upload_id: UUID) -> Upload:
        row = await self.catalog.uploads.get(self.user.id, upload_id)
        assert row is not None
        return row

    async def assert_stored(self, status: UploadStatus, data: bytes) -> Asset:
        """The upload is complete, and its asset's file holds exactly these bytes."""
        assert status.result is not None
        asset = await self.catalog.assets.get(status.result.asset_id)
        assert asset is not None
        assert asset.checksum == asset.file.sha1 == hashlib.sha1(data).digest()
        assert (asset.file.size, asset.file.crc32) == (len(data), zlib.crc32(data))
        assert asset.file.state is FileState.LIVE
        async with self.processes[0].storage.read(asset.file.path) as stream:
            assert b"".join([chunk async for chunk in stream.chunks]) == data
        return asset

    async def sweep(
        self, after: timedelta = timedelta(0), *, completes: bool = False, max_ended: int = MAX_ENDED_UPLOADS
    ) -> None:
        """Sweep sessions and files as of `after` from now."""
        now = datetime.now(UTC) + after
        process = self.processes[0]
        complete = process.sessions.complete_idle if completes else None
        lifetime = self.settings.upload_lifetime
        await sweep_uploads(
            process.catalog, process.storage, now=now, lifetime=lifetime, complete=complete, max_ended=max_ended
        )
        await sweep(process.catalog, process.storage, now=now)

    async def assert_consistent(self) -> None:
        """Once all sessions have ended and all graces are over, every stored object is a live file, and nothing else is left."""
        if self.stack.bucket:
            await asyncio.to_thread(self.stack.bucket.server.finish)
        for days in (10, 20, 30):
            await self.sweep(timedelta(days=days))
        files = [file async for file in self.catalog.files.iterate_all()]
        assert {file.state for file in files} <= {FileState.LIVE}
        assert {file.path: file.size for file in files} == self.stack.objects()
        assert self.stack.leftovers() == []
        owner = await self.catalog.users.get(self.user.id)
        assert owner is None or owner.used == sum(file.size or 0 for file in files)
        async with self.catalog.database.read() as connection:
            assert (await connection.execute(select(func.count()).select_from(tables.upload))).scalar_one() == 0


def split(data: bytes, size: int = 65536) -> Iterable[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@asynccontextmanager
async def open_place(stacks: Stacks, engine: Engine, folder: Path) -> AsyncIterator[SessionPlace]:
    stack = stacks.create(engine, folder)
    stack.media.mkdir(parents=True, exist_ok=True)
    environment: Mapping[str, Any] = {**stack.settings, "MEDIAVAULT_STAGING_FOLDER": str(folder / "staging")}
    settings = Settings(_env_file=None, **environment)  # pyright: ignore[reportCallIssue]
    async with AsyncExitStack() as opened:
        catalog = await open_catalog(stack.db_url)
        opened.push_async_callback(catalog.aclose)
        user = await catalog.users.create("uploader@example.org", "Uploader")
        key = await catalog.api_keys.create(user.id, "key", [PERMISSION], uuid4().bytes)
        place = SessionPlace(stack, settings, user, UploadCaller(user, key.id, PERMISSION), [], opened)
        await place.add_process()
        yield place
