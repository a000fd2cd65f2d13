"""`doctor` tells whether the cache's folder can be used, and makes nothing in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.doctor.cache_folder import check_cache
from app.doctor.findings import DiagnosisReport
from app.storage.cache.folder import FOLDER_NAME, CacheFolder


async def diagnose(folder: Path | None, **more: Any) -> dict[str, tuple[str, str]]:
    report = DiagnosisReport()
    values = {"S3_BUCKET": "photos", "MEDIAVAULT_CACHE_RESERVE": 0, "MEDIAVAULT_CACHE_SIZE": 2**28} | more
    if folder is not None:
        values["MEDIAVAULT_CACHE_FOLDER"] = folder
    await check_cache(report.section("cache"), Settings(_env_file=None, **values))  # pyright: ignore[reportCallIssue]
    return {finding.check: (finding.outcome.value, finding.detail) for finding in report.findings}


async def test_without_a_folder_there_is_nothing_to_check(tmp_path: Path) -> None:
    assert await diagnose(None) == {}
    assert (await diagnose(tmp_path, S3_BUCKET=None))["folder"][0] == "warning"
    assert (await diagnose(tmp_path / "none"))["folder"][0] == "warning"
    assert not (tmp_path / "none").exists()


async def test_a_folder_that_works_is_left_as_it_was(tmp_path: Path) -> None:
    found = await diagnose(tmp_path)
    assert found["folder"][0] == found["space"][0] == "ok"
    assert list(tmp_path.iterdir()) == []
    found = await diagnose(tmp_path, MEDIAVAULT_CACHE_SIZE=2**60)
    assert found["space"][0] == "warning"


@pytest.mark.parametrize("fault", ["a file", "others may write"])
async def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path, fault: str) -> None:
    CacheFolder(tmp_path).close()
    blocks = tmp_path / FOLDER_NAME
    if fault == "a file":
        (blocks / "usage").unlink()
        blocks.rmdir()
        blocks.write_bytes(b"")
    else:
        blocks.chmod(0o722)
    assert (await diagnose(tmp_path))["folder"][0] == "failed"
