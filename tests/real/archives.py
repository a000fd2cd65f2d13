"""Creates archive links and downloads the archives as clients do."""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import sqlalchemy as sa

from app.archives.manifest import Manifest, ManifestEntry
from app.archives.zip_layout import ZipLayout
from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.records import FileKind
from app.storage.backend import CHUNK_BYTES
from app.storage.key import Key
from app.storage.service import StorageService
from tests.real.accounts import Account
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.uploads import FORM_TAIL, UploadConnection

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DownloadLink:
    """The answer to `POST /download/links`; `path` begins with a slash."""

    path: str
    size: int
    etag: str
    resumable: bool
    expires_at: str

    @property
    def token(self) -> str:
        return self.path.split("/")[4]


def make_link(client: httpx.Client, asset_ids: Iterable[str], **wishes: Any) -> DownloadLink:
    answer = client.post("/api/download/links", json={"assetIds": list(asset_ids), **wishes})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    link = DownloadLink(urlsplit(body["url"]).path, body["size"], body["etag"], body["resumable"], body["expiresAt"])
    record_secret(link.token)
    return link


def download(client: httpx.Client, link: DownloadLink, target: Path) -> str:
    """Download the archive to `target` in one request; returns its SHA-256."""
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


def link_of_many(service: Service, owner_id: UUID, members: Sequence[tuple[str, bytes]], count: int) -> DownloadLink:
    """A link to an archive of `count` entries that reuse the objects of `members` (asset and content). No request could create such a link."""
    checksums = [(UUID(asset), len(data), zlib.crc32(data), hashlib.sha1(data).digest()) for asset, data in members]
    entries = []
    for number in range(count):
        asset_id, size, crc32, sha1 = checksums[number % len(checksums)]
        entries.append(ManifestEntry(asset_id, FileKind.ORIGINAL, f"{number:06d}.jpg", size, crc32, NOON, sha1))
    return store_link(service, owner_id, Manifest(tuple(entries)), f"{count}.zip")


def store_link(service: Service, owner_id: UUID, manifest: Manifest, name: str) -> DownloadLink:
    """Store a link to an arbitrary manifest, as `POST /download/links` does."""
    token = record_secret(secrets.token_urlsafe(32))
    expires_at = datetime.now(UTC) + timedelta(days=1)

    async def store(catalog: Catalog) -> None:
        digest = hashlib.sha256(token.encode()).digest()
        await catalog.archive_links.create(owner_id, name, manifest.pack(), digest, expires_at)

    service.people.call(store)
    size = ZipLayout([entry.to_zip_entry() for entry in manifest.entries]).size
    path = f"/api/download/archives/{token}/{name}"
    return DownloadLink(path, size, manifest.etag, manifest.is_resumable, expires_at.isoformat())


def move_to_another_key(service: Service, asset_ids: Iterable[str]) -> None:
    """Move originals to other keys, as a migration does: copy, switch the row, delete the source."""

    async def move(catalog: Catalog, storage: StorageService) -> None:
        for asset_id, file in (await catalog.assets.get_original_files(map(UUID, asset_ids))).items():
            target = storage.managed_path(Key(f"upload/moved/{asset_id}-{secrets.token_hex(4)}"))
            await storage.copy(file.path, target)
            await _switch(catalog, file.id, target)
            await storage.unlink(file.path)

    service.people.call_with_storage(move)


@contextmanager
def files_on_disk(service: Service, contents: Mapping[str, bytes], folder: Path) -> Iterator[None]:
    """Within the block, the assets' files are in this folder of the local media location, whatever the engine."""
    folder.mkdir(parents=True, exist_ok=True)

    async def switch_to_disk(catalog: Catalog) -> dict[UUID, str]:
        before = {}
        for asset_id, file in (await catalog.assets.get_original_files(map(UUID, contents))).items():
            target = folder / f"{asset_id}.bin"
            target.write_bytes(contents[str(asset_id)])
            before[file.id] = file.path
            await _switch(catalog, file.id, str(target))
        return before

    before = service.people.call(switch_to_disk)

    async def switch_back(catalog: Catalog) -> None:
        for file_id, path in before.items():
            await _switch(catalog, file_id, path)
        for asset_id in contents:
            folder.joinpath(f"{asset_id}.bin").unlink()

    try:
        yield
    finally:
        service.people.call(switch_back)


async def _switch(catalog: Catalog, file_id: UUID, path: str) -> None:
    async with catalog.engine.begin() as connection:
        await connection.execute(sa.update(tables.file).where(tables.file.c.id == file_id).values(path=path))


def upload_zeros(service: Service, account: Account, size: int, name: str = "film.mp4") -> str:
    """Upload `size` zero bytes, never all in memory; returns the asset's id."""
    piece = bytes(1024 * 1024)
    with UploadConnection(service.port, patience=600) as wire:
        wire.begin_upload(size, account.headers, name)
        for _ in range(size // len(piece)):
            wire.send(piece)
        wire.send(piece[: size % len(piece)])
        wire.send(FORM_TAIL)
        answer = wire.answer()
    assert answer.status in (200, 201), answer.body
    return answer.json()["id"]
