"""Archives as clients fetch them: a link, and what it gives."""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from app.archives.manifest import Manifest, ManifestEntry
from app.archives.plan import Plan
from app.catalog.catalog import Catalog
from app.catalog.records import FileKind
from app.storage.backend import CHUNK_BYTES
from tests.real.issued import issued
from tests.real.service import Service

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Link:
    """The answer to `POST /download/links`; `path` begins with a slash."""

    path: str
    size: int
    etag: str
    resumable: bool
    expires_at: str

    @property
    def token(self) -> str:
        return self.path.split("/")[4]


def make_link(client: httpx.Client, asset_ids: Iterable[str], **wishes: Any) -> Link:
    answer = client.post("/api/download/links", json={"assetIds": list(asset_ids), **wishes})
    assert answer.status_code == 201, answer.text
    told = answer.json()
    link = Link(urlsplit(told["url"]).path, told["size"], told["etag"], told["resumable"], told["expiresAt"])
    issued(link.token)
    return link


def download(client: httpx.Client, link: Link, target: Path) -> str:
    """Fetch the archive in one go to `target`; its SHA-256."""
    with client.stream("GET", link.path) as answer, target.open("wb") as file:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-length"] == str(link.size)
        assert answer.headers["etag"] == link.etag
        for chunk in answer.iter_raw(CHUNK_BYTES):
            file.write(chunk)
    assert target.stat().st_size == link.size
    return sha256_of(target)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_of_many(service: Service, owner_id: UUID, members: Sequence[tuple[str, bytes]], count: int) -> Link:
    """A link to `count` entries that share the objects of `members` (asset and content), as no request could ask for."""
    checksums = [(UUID(asset), len(data), zlib.crc32(data), hashlib.sha1(data).digest()) for asset, data in members]
    entries = []
    for number in range(count):
        asset_id, size, crc32, sha1 = checksums[number % len(checksums)]
        entries.append(ManifestEntry(asset_id, FileKind.ORIGINAL, f"{number:06d}.jpg", size, crc32, NOON, sha1))
    return store_link(service, owner_id, Manifest(tuple(entries)), f"{count}.zip")


def store_link(service: Service, owner_id: UUID, manifest: Manifest, name: str) -> Link:
    """What `POST /download/links` keeps, for a manifest of one's own."""
    token = issued(secrets.token_urlsafe(32))
    expires_at = datetime.now(UTC) + timedelta(days=1)

    async def store(catalog: Catalog) -> None:
        digest = hashlib.sha256(token.encode()).digest()
        await catalog.archives.create(owner_id, name, manifest.pack(), digest, expires_at)

    service.people.call(store)
    size = Plan([entry.planned() for entry in manifest.entries]).size
    path = f"/api/download/archives/{token}/{name}"
    return Link(path, size, manifest.etag, manifest.resumable, expires_at.isoformat())
