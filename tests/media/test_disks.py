"""Disk errors while an original is read are retryable and not blamed on the file; a full disk has an error of its own."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.formats import find_format
from app.media.errors import DecodeFailed, MediaDiskFull, SourceUnreadable
from app.media.photo_processor import detect_format
from app.media.range_extraction import extract_range
from app.media.sandbox import worker_functions
from app.storage.ranges import ByteRange


async def test_an_original_that_goes_while_it_is_worked_on(tmp_path: Path) -> None:
    format = find_format("a.jpg")
    assert format is not None
    with pytest.raises(SourceUnreadable) as caught:
        await detect_format(tmp_path / "gone.jpg", format)
    assert caught.value.retryable
    assert str(tmp_path) not in caught.value.reason


@pytest.mark.parametrize(
    ("number", "name"),
    [(errno.EIO, "SourceUnreadable"), (errno.ESTALE, "SourceUnreadable"), (errno.EINVAL, "DecodeFailed")],
)
def test_what_a_worker_is_told_by_the_disk(number: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: str) -> dict[str, Any]:
        raise OSError(number, os.strerror(number), source)

    monkeypatch.setitem(worker_functions.WORKER_FUNCTIONS, "locate_motion", fails)
    answer = json.loads(worker_functions.run_function("locate_motion", {"source": "/a/secret/b.jpg"}))
    assert answer["error"] == name
    assert "secret" not in answer["reason"]


async def test_a_part_is_cut_out(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"0123456789")
    await extract_range(source, ByteRange(3, 7), target)
    assert target.read_bytes() == b"34567"
    with pytest.raises(DecodeFailed):
        await extract_range(source, ByteRange(10, 12), target)
    with pytest.raises(SourceUnreadable):
        await extract_range(tmp_path / "gone", ByteRange(0, 1), target)


async def test_no_room_for_a_part(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"0123456789")
    with pytest.raises(MediaDiskFull):
        await extract_range(source, ByteRange(0, 9), Path("/dev/full"))
