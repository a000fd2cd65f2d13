"""`ProcessingStack`: catalogue, storage and the real media processor on either stack, without a service."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.schema.records import Asset, AssetType, FileKind, NewAsset, StoredFile, Task, User
from app.config import Settings
from app.formats import MediaKind, find_format
from app.media.generated_file_store import GeneratedFileStore
from app.media.pipeline import ProcessingPipeline
from app.media.processor import MediaProcessor
from app.storage.key import Key
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.api.consistency import assert_consistent, differences, read_state
from tests.real.stacks import Stack
from tests.real.sweeping import sweep_all

LEASE = timedelta(minutes=5)
TAKEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@dataclass(slots=True)
class ProcessingStack:
    stack: Stack
    settings: Settings
    catalog: Catalog
    storage: StorageService
    user: User
    processor: MediaProcessor
    added: list[str] = field(default_factory=list)

    @property
    def staging(self) -> Path:
        return self.settings.staging_folder

    def pipeline(self, processor: MediaProcessor | None = None) -> ProcessingPipeline:
        file_store = GeneratedFileStore(self.catalog, self.storage)
        return ProcessingPipeline(self.catalog, self.storage, processor or self.processor, file_store, max_transcodes=1)

    async def keep(self, data: bytes, name: str) -> tuple[Asset, Task]:
        """Store an original as an upload does; returns its asset and task."""
        format_ = find_format(name)
        assert format_ is not None
        stem = uuid4()
        path = self.storage.managed_path(Key(f"upload/{self.user.id}/{stem}{format_.extension}"))
        row = await self.catalog.files.begin_write(self.user.id, FileKind.ORIGINAL, path, format_.mime_type, LEASE)
        async with self.storage.write(path, size=len(data)) as writer:
            await writer.write(data)
        stored = StoredFile(row.id, len(data), hashlib.sha1(data).digest(), zlib.crc32(data))
        new = NewAsset(
            id=uuid4(),
            owner_id=self.user.id,
            type=AssetType.VIDEO if format_.kind is MediaKind.VIDEO else AssetType.IMAGE,
            checksum=stored.sha1,
            original_file_name=name,
            file_created_at=TAKEN,
            file_modified_at=TAKEN,
            local_date_time=TAKEN,
        )
        asset = await self.catalog.assets.insert(new, stored)
        task = await self.catalog.tasks.get_for_asset(asset.id)
        assert task is not None
        return asset, task

    async def requested_again(self, task: Task) -> Task:
        """The task after a new request, for which existing derivatives are too old."""
        (again,) = await self.catalog.tasks.request_for(self.user.id, [task.asset_id])
        return again

    async def made(self, asset: Asset) -> dict[FileKind, bytes]:
        """The content of every derivative."""
        contents = {}
        for kind, derivative in (await self.catalog.derivatives.get_for_asset(asset.id)).items():
            async with self.storage.read(derivative.file.path) as stream:
                contents[kind] = b"".join([bytes(chunk) async for chunk in stream.chunks])
        return contents

    async def check(self, *, swept: bool = True) -> None:
        """Assert that every object has a row, that the staging folder is empty, and that after a sweep only live files exist."""
        problems = await asyncio.to_thread(lambda: differences(read_state(self.stack), exact=False))
        assert not problems, problems
        left = [path for path in self.staging.rglob("*") if path.is_file() and path.name != "lock"]
        assert left == []
        if swept:
            await sweep_all(self.stack, self.catalog, self.storage)
            await asyncio.to_thread(assert_consistent, self.stack, exact=True)
            assert self.stack.leftovers() == []


@asynccontextmanager
async def open_processing_stack(
    stack: Stack, folder: Path, processor: MediaProcessor, **more: str
) -> AsyncIterator[ProcessingStack]:
    """`more` are additional settings."""
    own = {"MEDIAVAULT_STAGING_FOLDER": str(folder / "staging"), "MEDIAVAULT_FSYNC": "false"}
    values = {**stack.settings, **own, **more}
    settings = Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    catalog = await open_catalog(stack.db_url)
    storage = await open_storage(settings)
    await storage.staging.open()
    try:
        user = await catalog.users.create(f"{uuid4()}@example.org", "Somebody")
        yield ProcessingStack(stack, settings, catalog, storage, user, processor)
    finally:
        await storage.aclose()
        await catalog.aclose()
