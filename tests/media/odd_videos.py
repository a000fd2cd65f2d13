"""Makes posters and playable files, and reads them with ffprobe, for tests that compare releases of ffmpeg."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from PIL import Image

from app.catalog.schema.records import FileKind
from app.formats import find_format
from app.media.processing_results import GeneratedFile
from app.media.processor import MediaProcessor
from tests.real.archive_programs import program

INPUTS = Path(__file__).parent.parent / "inputs"


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
    command = [program("ffprobe"), "-v", "error", "-select_streams", selection, "-show_entries", entries, "-of", "json"]
    return json.loads(subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=60).stdout)
