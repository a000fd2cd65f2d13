"""Fixtures of the storage tests: `place`, the settings of a storage location as environment variables, and `backend`, opened on them.

A test class that runs the conformance suite on another backend overrides `place` or `backend`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from app.config import Settings
from app.storage.backend import StorageBackend
from app.storage.opening import open_storage
from tests.real.seaweedfs import SeaweedFS
from tests.storage.store_records import CORE

pytest.register_assert_rewrite("tests.storage.guarantees")

Place = Mapping[str, str]
CORE_ONLY = ("test_conformance_stores.py", "test_conformance_aws.py", "test_conformance_cached.py")
"""Modules that run the conformance suite once more, on another server, with other checksums or through the cache."""


def make_s3_place(server: SeaweedFS, bucket: str, prefix: str, folder: Path, **more: str) -> Place:
    """Settings of a storage in this bucket of the server. It has no local media location."""
    return {
        "IMMICH_STORAGE_ENGINE": "s3",
        "IMMICH_MEDIA_LOCATION": str(folder / "none"),
        "S3_ENDPOINT": server.endpoint,
        "S3_REGION": "us-east-1",
        "S3_BUCKET": bucket,
        "S3_PREFIX": prefix,
        "S3_ACCESS_KEY_ID": server.admin.access_key,
        "S3_SECRET_ACCESS_KEY": server.admin.secret_key,
        **more,
    }


def settings_of(place: Place) -> Settings:
    return Settings(_env_file=None, **place)  # pyright: ignore[reportCallIssue, reportArgumentType]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deselects the guarantees of these modules that are not in the suite's core, unless the run is a soak."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.name in CORE_ONLY and item.originalname not in CORE:
            item.add_marker(pytest.mark.soak)


@pytest.fixture
async def backend(place: Place) -> AsyncIterator[StorageBackend]:
    """A new, empty backend."""
    service = await open_storage(settings_of(place))
    yield service.primary_backend
    await service.aclose()
