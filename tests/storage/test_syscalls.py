"""`write_all` writes every byte, in order, however few one call takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.storage.local.syscalls import write_all


@pytest.mark.parametrize("most", [1, 3, 1000])
@pytest.mark.parametrize(
    "pieces",
    [[], [b""], [b"one"], [b"", b"one", b"", bytearray(b"two"), memoryview(b"three"), b""], [b"ab"] * 1500],
    ids=["none", "empty", "one", "kinds", "many"],
)
def test_all_pieces_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes | bytearray | memoryview], most: int
) -> None:
    writev = os.writev

    def write_little(descriptor: int, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        assert len(buffers) <= os.sysconf("SC_IOV_MAX")
        return writev(descriptor, [b"".join(buffers)[:most]])

    monkeypatch.setattr(os, "writev", write_little)
    with (tmp_path / "written").open("wb", buffering=0) as file:
        write_all(file.fileno(), pieces)
    assert (tmp_path / "written").read_bytes() == b"".join(pieces)
