"""`Library`: a small library for a move, with the expected content of each file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from sqlalchemy import update

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database.engine import now
from app.catalog.schema import tables
from app.catalog.schema.move_records import MoveFilters
from app.catalog.schema.records import File, FileKind, StoredFile
from app.config import Settings, StorageEngine
from app.health.markers import MediaLocationCheck
from app.migration.copy_check import VerifyMethod
from app.migration.migration_context import MigrationContext
from app.migration.source_and_target import OPPOSITE_ENGINE, find_route
from app.storage.key import Key
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.api.consistency import assert_consistent, differences, read_state
from tests.catalog.rows import make_user, new_asset
from tests.migration.commands import mediavault
from tests.real.databases import DatabaseKind
from tests.real.service import Service
from tests.real.stacks import Stack, Stacks
from tests.real.sweeping import sweep_all

LEASE = timedelta(minutes=30)
ODD_NAMES = (
    "plain.jpg",
    "with space.jpg",
    "#hash?query&more=1.jpg",
    "100%25 +plus+.jpg",
    "quote\"double'single.jpg",
    "café-nfc.jpg",
    "café-nfd.jpg",
    "smile-\U0001f600.jpg",
    "-dash;semicolon,comma.jpg",
    ".hidden.jpg",
    "UPPER.JPG",
    "x" * 190 + ".jpg",
)


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A file of the library: its asset and its checksum."""

    asset_id: UUID
    file_id: UUID
    path: str
    sha256: str
    size: int


def settings_of(stack: Stack, engine: StorageEngine, **more: Any) -> Settings:
    values = {**stack.settings, "IMMICH_STORAGE_ENGINE": engine, "MEDIAVAULT_FSYNC": "false", **more}
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]


@dataclass(slots=True)
class Library:
    """`source` has the engine of the move's source; `storage` that of its target, as the service does during a move."""

    stack: Stack
    to: StorageEngine
    catalog: Catalog
    source: StorageService
    storage: StorageService
    owner: UUID
    files: list[ExpectedFile] = field(default_factory=list)
    endpoint: str | None = None
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    async def create(cls, stack: Stack, to: StorageEngine, *, endpoint: str | None = None) -> Self:
        """An empty library. `endpoint` is a proxy before the store that only the move uses."""
        catalog = await open_catalog(stack.db_url)
        more = {} if endpoint is None else {"S3_ENDPOINT": endpoint}
        if to is StorageEngine.LOCAL:
            stack.media.mkdir(parents=True, exist_ok=True)
        source = await open_storage(settings_of(stack, OPPOSITE_ENGINE[to]))
        await MediaLocationCheck(catalog, source).verify()
        storage = await open_storage(settings_of(stack, to, **more))
        library = cls(stack, to, catalog, source, storage, (await make_user(catalog)).id, endpoint=endpoint)
        for opened in (catalog, source, storage):
            library._open.push_async_callback(opened.aclose)
        return library

    async def aclose(self) -> None:
        await self._open.aclose()

    async def fill(self, sizes: Sequence[int], *, seed: int = 1, owner: UUID | None = None) -> list[ExpectedFile]:
        """Store files at the source, some with unusual names."""
        dice = random.Random(seed)
        added: list[ExpectedFile] = []
        for number, size in enumerate(sizes):
            name = ODD_NAMES[number % len(ODD_NAMES)]
            folder = f"upload/{owner or self.owner}/{number // 50:02}/{dice.getrandbits(32):08x}"
            key = Key(f"{folder}/{name}")
            added.append(await self.add(self.source, key, dice.randbytes(size), owner=owner))
        return added

    async def add(
        self, storage: StorageService, key: Key, data: bytes, *, owner: UUID | None = None, sidecar: bool = False
    ) -> ExpectedFile:
        """Store one file where `storage` puts new ones."""
        whose = owner or self.owner
        original = await self._stored(storage, key, data, whose, FileKind.ORIGINAL)
        beside = None
        if sidecar:
            beside = await self._stored(storage, Key(f"{key}.xmp"), b"<x/>" + data[:10], whose, FileKind.SIDECAR)
        asset = await self.catalog.assets.insert(new_asset(whose, original.sha1), original, beside)
        kept = ExpectedFile(asset.id, asset.file.id, asset.file.path, hashlib.sha256(data).hexdigest(), len(data))
        self.files.append(kept)
        return kept

    async def _stored(self, storage: StorageService, key: Key, data: bytes, owner: UUID, kind: FileKind) -> StoredFile:
        path = storage.managed_path(key)
        row = await self.catalog.files.begin_write(owner, kind, path, "image/jpeg", LEASE)
        async with storage.write(path, size=len(data)) as writer:
            await writer.write(data)
        return StoredFile(row.id, len(data), hashlib.sha1(data).digest(), zlib.crc32(data))

    def work(self, **options: Any) -> MigrationContext:
        return replace(MigrationContext(self.catalog, self.storage, find_route(self.storage, self.to)), **options)

    async def file(self, kept: ExpectedFile) -> File:
        found = await self.catalog.files.get(kept.file_id)
        assert found is not None
        return found

    async def age(self, by: timedelta = timedelta(minutes=2)) -> None:
        """Move the recorded time of the switch into the past, or into the future where `by` is negative."""
        statement = update(tables.migration_item).where(tables.migration_item.c.switched_at.is_not(None))
        async with self.catalog.engine.begin() as connection:
            await connection.execute(statement.values(switched_at=now() - by))

    async def delete(self, kept: ExpectedFile) -> None:
        """Delete the asset permanently, as its owner."""
        await self.catalog.assets.delete(self.owner, [kept.asset_id])
        self.files.remove(kept)

    async def sweep(self) -> None:
        """Sweep all that is due within the next days."""
        await sweep_all(self.stack, self.catalog, self.storage)

    def at_source(self) -> dict[str, int]:
        """The paths of objects at the source, without markers."""
        return self._stored_at(self.work().route.source.paths.path_prefix)

    def at_target(self) -> dict[str, int]:
        return self._stored_at(self.work().route.target.paths.path_prefix)

    def _stored_at(self, base: str) -> dict[str, int]:
        return {
            path: size
            for path, size in self.stack.objects().items()
            if path.startswith(base) and not path.endswith("/.immich")
        }

    async def check(self, *, at: str | None = None, read: bool = True) -> None:
        """Assert that every file that was not deleted is live at the given engine, and, with `read`, that its bytes are unchanged."""
        for kept in self.files:
            file = await self.file(kept)
            assert at is None or file.path.startswith(at), file.path
            assert not read or await self.sha256(file.path) == kept.sha256, file.path
        found = differences(read_state(self.stack), exact=False)
        assert not found, "\n".join(found)

    async def sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        async with self.storage.read(path) as stream:
            async for chunk in stream.chunks:
                digest.update(chunk)
        return digest.hexdigest()

    async def check_exact(self, *, at: str) -> None:
        """As `check`; also assert that after a sweep neither location has other objects."""
        await self.sweep()
        await self.check(at=at)
        assert_consistent(self.stack, exact=True)
        assert self.stack.leftovers() == []

    async def verify(self, *, made: int = 0) -> None:
        """Run `mediavault verify --checksums`: it finds no problem, and sees every file, including `made` derivatives."""
        service = Service(self.stack, settings={"IMMICH_STORAGE_ENGINE": self.to.value})
        ended = await asyncio.to_thread(mediavault, service, "verify", "--checksums", "--format", "json")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        document = json.loads(ended.stdout)
        assert document["findings"] == []
        assert document["summary"]["files"] == len(self.files) + made, document

    @property
    def source_base(self) -> str:
        return self.work().route.source.paths.path_prefix

    @property
    def target_base(self) -> str:
        return self.work().route.target.paths.path_prefix

    def local_file(self, path: str) -> Path:
        return Path(path)


def make_filters(owner: UUID | None = None, *kinds: FileKind) -> MoveFilters:
    return MoveFilters(owner, kinds or None)


__all__ = ["ExpectedFile", "Library", "VerifyMethod", "make_filters", "settings_of"]


@asynccontextmanager
async def open_library(
    stacks: Stacks, folder: Path, database: DatabaseKind = "sqlite", to: StorageEngine = StorageEngine.S3
) -> AsyncIterator[Library]:
    """A library for a move to `to`, in a new folder below `folder`."""
    place = folder / "library"
    place.mkdir()
    library = await Library.create(stacks.create("s3", place, database=database), to)
    try:
        yield library
    finally:
        await library.aclose()
