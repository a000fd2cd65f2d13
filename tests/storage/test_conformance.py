"""The conformance suite against a local folder and against a real S3 server."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.real.seaweedfs import SeaweedFS
from tests.storage.conformance import Conformance
from tests.storage.conftest import Place, make_s3_place


class TestLocal(Conformance):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return {"IMMICH_STORAGE_ENGINE": "local", "IMMICH_MEDIA_LOCATION": str(tmp_path / "media")}


@pytest.fixture(scope="module")
def bucket(seaweedfs: SeaweedFS) -> str:
    return seaweedfs.create_bucket()


class TestS3(Conformance):
    @pytest.fixture
    def place(self, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> Place:
        return make_s3_place(seaweedfs, bucket, f"test-{secrets.token_hex(6)}", tmp_path)
