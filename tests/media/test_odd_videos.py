"""Videos as phones, editors and recorders really write them: odd timestamps, colours and tracks, with each ffmpeg."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.formats import find_format
from app.media.processing_results import GeneratedFile
from app.media.processor import MediaProcessor
from tests.real.archive_programs import program

INPUTS = Path(__file__).parent.parent / "inputs"


async def make_playable(processor: MediaProcessor, source: Path, folder: Path) -> GeneratedFile | None:
    format = find_format(source.name)
    assert format is not None
    return await processor.make_playable(source, format, folder)


def read_streams(path: Path, entries: str, selection: str = "v:0") -> Any:
    command = [program("ffprobe"), "-v", "error", "-select_streams", selection, "-show_entries", entries, "-of", "json"]
    return json.loads(subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=60).stdout)


def read_timestamps(path: Path) -> list[float]:
    """When each frame of the video is shown, in seconds after the first."""
    packets = read_streams(path, "packet=pts_time")["packets"]
    times = sorted(float(packet["pts_time"]) for packet in packets)
    return [time - times[0] for time in times]


@pytest.mark.parametrize(("name", "frames", "seconds"), [("vfr60.mp4", 180, 3.004), ("hole.mp4", 72, 4.5)])
async def test_every_frame_keeps_its_time(
    each_processor: MediaProcessor, folder: Path, name: str, frames: int, seconds: float
) -> None:
    product = await make_playable(each_processor, INPUTS / name, folder)
    assert product is not None
    expected, times = read_timestamps(INPUTS / name), read_timestamps(product.path)
    assert len(times) == len(expected) == frames
    assert max(abs(time - right) for time, right in zip(times, expected, strict=True)) <= 0.001
    duration = read_streams(product.path, "format=duration")["format"]["duration"]
    assert float(duration) == pytest.approx(seconds, abs=0.02)
