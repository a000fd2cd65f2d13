"""Settings of the processing of photos and videos: staging folder, concurrency, limits of time, memory and pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic_settings import BaseSettings

from app.config.fields import GIBIBYTE, MEBIBYTE, AbsolutePath, setting

TranscodeEncoder = Literal["libx264", "vaapi", "nvenc", "qsv"]


class MediaSettings(BaseSettings):
    staging_folder: AbsolutePath = setting(
        "MEDIAVAULT_STAGING_FOLDER",
        Path("./data/staging"),
        "Where files lie while tools work on them; on a local disk, never below IMMICH_MEDIA_LOCATION.",
    )
    staging_limit: int = setting(
        "MEDIAVAULT_STAGING_LIMIT",
        10 * GIBIBYTE,
        "Most bytes of originals that lie there at once; a larger one is let in alone.",
        ge=MEBIBYTE,
    )
    photo_tasks: int | None = setting(
        "MEDIAVAULT_PHOTO_TASKS",
        None,
        "Photos that a process works on at once; as many as it has processors when unset.",
        ge=1,
    )
    video_tasks: int = setting(
        "MEDIAVAULT_VIDEO_TASKS",
        4,
        "Videos that a process works on at once, those that wait to be transcoded among them.",
        ge=1,
    )
    transcodes: int = setting("MEDIAVAULT_TRANSCODES", 1, "Videos that a process transcodes at once.", ge=1)
    media_seconds: float = setting(
        "MEDIAVAULT_MEDIA_SECONDS",
        120.0,
        "What one photo, or the poster frame of one video, may take. Processor time is limited to the same.",
        gt=0,
        allow_inf_nan=False,
    )
    transcode_encoder: TranscodeEncoder = setting(
        "MEDIAVAULT_TRANSCODE_ENCODER",
        "libx264",
        "What encodes videos: `libx264`, or by hardware `vaapi`, `nvenc` or `qsv`. One that does not work here is replaced by `libx264`.",
    )
    transcode_device: AbsolutePath = setting(
        "MEDIAVAULT_TRANSCODE_DEVICE",
        Path("/dev/dri/renderD128"),
        "The device of `vaapi` and `qsv`.",
    )
    transcode_seconds: float = setting(
        "MEDIAVAULT_TRANSCODE_SECONDS",
        14400.0,
        "What making one video playable may take.",
        gt=0,
        allow_inf_nan=False,
    )
    media_memory: int = setting(
        "MEDIAVAULT_MEDIA_MEMORY",
        4 * GIBIBYTE,
        "Most address space of each process that works on a photo or video.",
        ge=512 * MEBIBYTE,
    )
    media_pixels: int = setting(
        "MEDIAVAULT_MEDIA_PIXELS", 250_000_000, "Most pixels of a photo, or of a frame of a video.", ge=1
    )
