"""The conformance suite with the SDK's own checksums (profile `aws`): its guarantees that depend on how bytes are sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.seaweedfs import SeaweedFS
from tests.storage.conftest import Place
from tests.storage.guarantees.deletes import DeleteGuarantees
from tests.storage.guarantees.names import NameGuarantees
from tests.storage.guarantees.reads import ReadGuarantees
from tests.storage.guarantees.resumable import ResumableGuarantees
from tests.storage.guarantees.writes import WriteGuarantees


class TestAwsProfile(NameGuarantees, ReadGuarantees, WriteGuarantees, DeleteGuarantees, ResumableGuarantees):
    @pytest.fixture
    def place(self, seaweedfs: SeaweedFS, bucket: str, prefix: str, tmp_path: Path) -> Place:
        return {
            "IMMICH_STORAGE_ENGINE": "s3",
            "IMMICH_MEDIA_LOCATION": str(tmp_path / "none"),
            "S3_ENDPOINT": seaweedfs.endpoint,
            "S3_BUCKET": bucket,
            "S3_PREFIX": prefix,
            "S3_ACCESS_KEY_ID": seaweedfs.admin.access_key,
            "S3_SECRET_ACCESS_KEY": seaweedfs.admin.secret_key,
            "MEDIAVAULT_S3_CHECKSUMS": "aws",
        }
