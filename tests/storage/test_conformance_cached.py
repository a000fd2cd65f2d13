"""The conformance suite against S3 read through the cache: whatever is cached, each guarantee of the store holds. `make test` runs the
core of the suite (see `conftest.py`), `make soak` all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.storage.backend import StorageBackend
from app.storage.opening import open_storage
from tests.real.seaweedfs import SeaweedFS
from tests.storage.conformance import Conformance
from tests.storage.conftest import Place, make_s3_place, settings_of


@pytest.fixture(scope="module")
def bucket(seaweedfs: SeaweedFS) -> str:
    return seaweedfs.create_bucket()


class TestCached(Conformance):
    @pytest.fixture
    def place(self, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> Place:
        more = {
            "MEDIAVAULT_CACHE_FOLDER": str(tmp_path / "cache"),
            "MEDIAVAULT_CACHE_RESERVE": "0",
            "MEDIAVAULT_CACHE_ORIGINALS": "always",
        }
        return make_s3_place(seaweedfs, bucket, f"test-{tmp_path.name}", tmp_path, **more)

    @pytest.fixture
    async def backend(self, place: Place) -> AsyncIterator[StorageBackend]:
        service = await open_storage(settings_of(place))
        assert service.s3_cache is not None
        yield service.s3_cache
        await service.aclose()
