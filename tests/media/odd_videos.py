"""Makes posters and playable files, and reads them with ffprobe, for tests that compare releases of ffmpeg."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from app.catalog.schema.records import FileKind
from app.formats import find_format
from app.media.processing_results import GeneratedFile
from app.media.processor import MediaProcessor
from tests.real.archive_programs import program, video_program

INPUTS = Path(__file__).parent.parent / "inputs"
PLAYABLE_MATRICES = (None, "unknown", "bt709", "smpte170m", "bt470bg")


async def make_playable(processor: MediaProcessor, source: Path, folder: Path) -> GeneratedFile | None:
    format = find_format(source.name)
    assert format is not None
    return await processor.make_playable(source, format, folder)


async def render_poster(processor: MediaProcessor, source: Path, folder: Path) -> Image.Image:
    format = find_format(source.name)
    assert format is not None
    poster = await processor.make_poster(source, format, folder)
    preview = next(product for product in poster.files if product.kind is FileKind.PREVIEW)
    with Image.open(preview.path) as image:
        return image.convert("RGB")


def read_streams(path: Path, entries: str, selection: str = "v:0") -> Any:
    """What ffprobe tells about the streams of this selection."""
    command = [
        video_program("ffprobe"),
        "-v",
        "error",
        "-select_streams",
        selection,
        "-show_entries",
        entries,
        "-of",
        "json",
    ]
    return json.loads(subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=60).stdout)


def read_timestamps(path: Path) -> list[float]:
    """When each frame of the video is shown, in seconds after the first."""
    packets = read_streams(path, "packet=pts_time")["packets"]
    times = sorted(float(packet["pts_time"]) for packet in packets)
    return [time - times[0] for time in times]


def run_ffmpeg(*arguments: str) -> bytes:
    """The standard output of ffmpeg."""
    has_png = any(argument.endswith(".png") for argument in arguments)  # which the packaged build does not read
    command = [program("ffmpeg") if has_png else video_program("ffmpeg"), "-nostdin", "-v", "error", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def measure_pitch(path: Path) -> int:
    """Of the first sound track, in hertz, to the nearest multiple of 40."""
    decoded = run_ffmpeg("-i", str(path), "-map", "0:a:0", "-ac", "1", "-ar", "16000", "-f", "s16le", "-")
    samples = memoryview(decoded).cast("h")
    crossings = sum(before < 0 <= after for before, after in pairwise(samples))
    return round(crossings * 16_000 / len(samples) / 40) * 40
