"""Helpers that store files as the catalogue records them, and damage them without its knowledge."""

from __future__ import annotations

import asyncio
import hashlib
import random
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import insert

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.records import File, FileKind, FileState, StoredFile
from app.migration.consistency.consistency_check import ConsistencyCheck
from app.migration.consistency.findings import ConsistencyFinding, ConsistencySummary, FindingKind, FindingRepairer
from app.storage.key import Key
from app.storage.service import StorageService
from tests.catalog.rows import LEASE, make_user, new_asset
from tests.real.stacks import Stack

ODD_NAMES = ("plain.jpg", "a b#c?d%25+é.jpg", "quote\"'.jpg", "\U0001f600.jpg", "e\u0301.jpg", ".hidden.jpg")


class IgnoredProgress:
    """Discards the progress of a check."""

    def begin(self, stage: str, total: int | None) -> None: ...

    def advance(self, count: int, size: int = 0) -> None: ...


@dataclass(slots=True)
class DamagedLibrary:
    stack: Stack
    catalog: Catalog
    storage: StorageService
    owner: UUID
    files: list[File] = field(default_factory=list)

    @classmethod
    async def create(cls, stack: Stack, catalog: Catalog, storage: StorageService) -> DamagedLibrary:
        return cls(stack, catalog, storage, (await make_user(catalog)).id)

    async def fill(self, count: int = 6) -> None:
        for number in range(count):
            await self.add(ODD_NAMES[number % len(ODD_NAMES)], random.randbytes(number * 1000))

    async def add(self, name: str, data: bytes) -> File:
        """Store an asset with its original."""
        kept = await self.store(FileKind.ORIGINAL, f"upload/{self.owner}/{uuid4()}/{name}", data)
        asset = await self.catalog.assets.insert(new_asset(self.owner, kept.sha1), kept)
        self.files.append(asset.file)
        return asset.file

    async def store(self, kind: FileKind, key: str, data: bytes) -> StoredFile:
        """Store a file in state `writing`, with its object."""
        path = self.storage.managed_path(Key(key))
        row = await self.catalog.files.begin_write(self.owner, kind, path, "image/jpeg", LEASE)
        async with self.storage.write(path) as writer:
            await writer.write(data)
        return StoredFile(row.id, len(data), hashlib.sha1(data).digest(), zlib.crc32(data))

    async def add_derivative(self, original: File, kind: FileKind = FileKind.THUMBNAIL) -> File:
        """Store a derivative of that original."""
        asset = next(
            each for each in await self.catalog.assets.get_all_visible(self.owner) if each.file.id == original.id
        )
        data = random.randbytes(300)
        kept = await self.store(kind, f"thumbs/{self.owner}/{asset.id}_{kind}_{uuid4().hex[:8]}.webp", data)
        known = {"size": kept.size, "sha1": kept.sha1, "crc32": kept.crc32, "state": FileState.LIVE}
        async with self.catalog.engine.begin() as connection:
            statement = tables.file.update().where(tables.file.c.id == kept.file_id)
            await connection.execute(statement.values(known))
            row = {"asset_id": asset.id, "kind": kind, "file_id": kept.file_id}
            await connection.execute(insert(tables.derivative).values(row))
        found = await self.catalog.files.get(kept.file_id)
        assert found is not None
        return found

    async def put(self, key: str, data: bytes = b"nobody's") -> str:
        """Store an object without a row; returns its path."""
        path = self.storage.managed_path(Key(key))
        await self.spoil(path, data)
        return path

    async def spoil(self, path: str, data: bytes | None) -> None:
        """Replace the object at a path, or delete it where `data` is None."""
        await asyncio.to_thread(self._spoil, path, data)

    def _spoil(self, path: str, data: bytes | None) -> None:
        if self.stack.bucket and path.startswith("s3://"):
            name = path.removeprefix(f"s3://{self.stack.bucket.name}/")
            client = self.stack.bucket.server.administration
            if data is None:
                client.delete_object(Bucket=self.stack.bucket.name, Key=name)
            else:
                client.put_object(Bucket=self.stack.bucket.name, Key=name, Body=data)
        elif data is None:
            Path(path).unlink()
        else:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(data)

    async def bytes_of(self, path: str) -> bytes:
        async with self.storage.read(path) as stream:
            return b"".join([chunk async for chunk in stream.chunks])

    async def verify(
        self, *, checksums: bool = False, repairs: FindingRepairer | None = None, concurrency: int = 4
    ) -> tuple[ConsistencySummary, list[ConsistencyFinding]]:
        found: list[ConsistencyFinding] = []
        verification = ConsistencyCheck(
            self.catalog,
            self.storage,
            on_finding=found.append,
            progress=IgnoredProgress(),
            repairer=repairs,
            checksums=checksums,
            concurrency=concurrency,
        )
        return await verification.run(), found

    async def problems(self, *, checksums: bool = False) -> dict[str, FindingKind]:
        """The problems by path."""
        summary, found = await self.verify(checksums=checksums)
        assert summary.problems.total() == len(found)
        return {finding.path: finding.problem for finding in found}
