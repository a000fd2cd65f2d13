"""The conformance suite with the SDK's own checksums (profile `aws`): its guarantees that depend on how bytes are sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.seaweedfs import SeaweedFS
from tests.storage.conftest import Place, make_s3_place
from tests.storage.guarantees.deletes import DeleteGuarantees
from tests.storage.guarantees.names import NameGuarantees
from tests.storage.guarantees.reads import ReadGuarantees
from tests.storage.guarantees.resumable import ResumableGuarantees
from tests.storage.guarantees.writes import WriteGuarantees


class TestAwsProfile(NameGuarantees, ReadGuarantees, WriteGuarantees, DeleteGuarantees, ResumableGuarantees):
    @pytest.fixture
    def place(self, seaweedfs: SeaweedFS, bucket: str, prefix: str, tmp_path: Path) -> Place:
        return make_s3_place(seaweedfs, bucket, prefix, tmp_path, MEDIAVAULT_S3_CHECKSUMS="aws")
