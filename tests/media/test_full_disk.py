"""A full disk during processing raises `MediaDiskFull`, which is retryable."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from app.formats import find_format
from app.media.errors import MediaDiskFull
from app.media.processor import MediaProcessor
from tests.media import photo_files
from tests.media.video_files import make_video

ROOM = 64 * 1024


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of `ROOM` bytes."""
    if os.geteuid() != 0:
        pytest.skip("a full disk needs a small tmpfs, and mounting one needs root")
    folder = tmp_path / "narrow"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)], check=True, timeout=30)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


async def test_pictures(processor: MediaProcessor, narrow: Path) -> None:
    source = narrow.parent / "photo.jpg"
    source.write_bytes(photo_files.encode_jpeg(Image.effect_noise((2000, 1500), 80).convert("RGB")))
    format = find_format(source.name)
    assert format is not None
    with pytest.raises(MediaDiskFull) as caught:
        await processor.make_images(source, format, narrow)
    assert caught.value.retryable


async def test_videos(processor: MediaProcessor, narrow: Path) -> None:
    source = narrow.parent / "film.mkv"
    source.write_bytes(
        make_video(".mkv", "-c:v", "mpeg4", picture="testsrc2=size=640x480:rate=25:duration=2", sound=False)
    )
    format = find_format(source.name)
    assert format is not None
    with pytest.raises(MediaDiskFull):
        await processor.make_poster(source, format, narrow)
    for leftover in narrow.iterdir():
        leftover.unlink()
    with pytest.raises(MediaDiskFull):
        await processor.make_playable(source, format, narrow)
