"""What is recorded of a file that was looked at."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.immich.media_roots import FoundFile, parse_media_roots


@pytest.mark.parametrize(("inode", "stored"), [(7, 7), (2**63 - 1, 2**63 - 1), (2**63, -(2**63)), (2**64 - 1, -1)])
def test_an_inode_fits_into_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inode: int, stored: int
) -> None:
    """As a scan stores it. File systems over others use all 64 bits."""
    (tmp_path / "a.jpg").write_bytes(b"a")
    roots = parse_media_roots([str(tmp_path)])
    lstat = os.lstat

    def report(path: str) -> os.stat_result | SimpleNamespace:
        status = lstat(path)
        if not path.endswith("a.jpg"):
            return status
        names = ("st_mode", "st_size", "st_dev", "st_mtime_ns")
        return SimpleNamespace(st_ino=inode, **{name: getattr(status, name) for name in names})

    monkeypatch.setattr(os, "lstat", report)
    found = roots.find(str(tmp_path / "a.jpg"))
    assert isinstance(found, FoundFile)
    assert found.inode == stored
