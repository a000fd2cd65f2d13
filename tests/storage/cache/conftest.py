"""`open_service`: opens storages on one bucket prefix and one cache folder, through a proxy that records requests; as many processes
would."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from app.metrics.instruments import ProcessMetrics
from app.storage.cache.backend import CachedBackend
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.real.disk_folders import disk_folder
from tests.real.proxy import Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.storage.conftest import settings_of


class OpenService(Protocol):
    def __call__(self, metrics: ProcessMetrics | None = None, **settings: str) -> Awaitable[StorageService]: ...


class OpenCached(Protocol):
    def __call__(self, **settings: str) -> Awaitable[CachedBackend]: ...


@pytest.fixture(scope="session")
def cache_bucket(seaweedfs: SeaweedFS) -> str:
    return seaweedfs.create_bucket()


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[Proxy]:
    with Proxy(seaweedfs.port) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with disk_folder(tmp_path) as place:
        yield place / "cache"


@pytest.fixture
async def open_service(
    seaweedfs: SeaweedFS, proxy: Proxy, cache_bucket: str, folder: Path, tmp_path: Path
) -> AsyncIterator[OpenService]:
    prefix = f"cached-{secrets.token_hex(6)}"
    opened: list[StorageService] = []

    async def open_one(metrics: ProcessMetrics | None = None, **settings: str) -> StorageService:
        place: dict[str, Any] = {
            "IMMICH_STORAGE_ENGINE": "s3",
            "IMMICH_MEDIA_LOCATION": str(tmp_path / "none"),
            "S3_ENDPOINT": proxy.endpoint,
            "S3_BUCKET": cache_bucket,
            "S3_PREFIX": prefix,
            "S3_ACCESS_KEY_ID": seaweedfs.admin.access_key,
            "S3_SECRET_ACCESS_KEY": seaweedfs.admin.secret_key,
            "MEDIAVAULT_CACHE_FOLDER": str(folder),
            "MEDIAVAULT_CACHE_RESERVE": "0",
            "MEDIAVAULT_CACHE_ORIGINALS": "always",
        }
        opened.append(await open_storage(settings_of(place | settings), metrics))
        return opened[-1]

    yield open_one
    for service in opened:
        await service.aclose()


@pytest.fixture
def open_cached(open_service: OpenService) -> OpenCached:
    """The backend that reads through the cache."""

    async def open_one(**settings: str) -> CachedBackend:
        backend = (await open_service(None, **settings)).s3_cache
        assert isinstance(backend, CachedBackend)
        return backend

    return open_one


@pytest.fixture
def count_gets(proxy: Proxy) -> Callable[[], int]:
    """Number of GETs of objects since the last call."""
    seen = 0

    def count() -> int:
        nonlocal seen
        total = sum(request.method == "GET" and "list-type" not in request.query for request in proxy.requests)
        seen, new = total, total - seen
        return new

    return count
