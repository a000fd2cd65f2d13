"""Parses the JSON output of ffprobe into typed values. Pure."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from app.formats.signatures import DetectedFormat
from app.media.errors import DecodeFailed
from app.media.video.stream_selection import select_streams

_HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
_RGB_FORMATS = ("gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "pal8")
"""Beginnings of ffmpeg's names of pixel formats without a matrix."""

_INTERLACED = frozenset({"tt", "bb", "tb", "bt"})


@dataclass(frozen=True, slots=True)
class VideoStream:
    """`width` and `height` in pixels as stored; `pixel_aspect`, a pixel's width by its height; `rotation` in degrees clockwise (0, 90, 180, 270)
    that players apply; `matrix`, `primaries` and `transfer` are None if unknown or reserved."""

    index: int
    codec: str
    pixel_format: str
    width: int
    height: int
    pixel_aspect: Fraction
    rotation: int
    is_interlaced: bool
    matrix: str | None
    primaries: str | None
    transfer: str | None
    has_reserved_matrix: bool
    fps: float | None

    @property
    def is_rgb(self) -> bool:
        return self.pixel_format.startswith(_RGB_FORMATS)

    @property
    def is_hdr(self) -> bool:
        return self.transfer in _HDR_TRANSFERS

    @property
    def display_size(self) -> tuple[int, int]:
        width, height = max(1, round(self.width * self.pixel_aspect)), self.height
        return (height, width) if self.rotation in (90, 270) else (width, height)


@dataclass(frozen=True, slots=True)
class AudioStream:
    index: int
    codec: str


@dataclass(frozen=True, slots=True)
class ProbedVideo:
    """`duration` in seconds, None if unknown. Names of `tags` are in lower case; `creation_times` are those of the container, of the video
    stream and of all streams. `has_other_tracks_first`: a player that takes the first tracks of the file plays others than these.
    `undecodable`: why the video stream cannot be decoded, None if it can."""

    content: DetectedFormat
    video_stream: VideoStream
    audio_stream: AudioStream | None
    has_other_tracks_first: bool
    duration: float | None
    tags: dict[str, str]
    creation_times: tuple[str, ...]
    undecodable: str | None


def parse_probe(output: str, content: DetectedFormat, decodable: frozenset[str]) -> ProbedVideo:
    """`decodable` are the names of the codecs that ffmpeg decodes. Raises `DecodeFailed` if there is no video stream, or the output is
    malformed."""
    try:
        probed = json.loads(output)
        streams: list[dict[str, Any]] = list(probed.get("streams", []))
        selected = select_streams(streams, decodable)
        container, video, audio = probed.get("format", {}), selected.video, selected.audio
        return ProbedVideo(
            content=content,
            video_stream=_parse_video_stream(video),
            audio_stream=None if audio is None else AudioStream(int(audio["index"]), str(audio["codec_name"])),
            has_other_tracks_first=not selected.are_first,
            duration=_parse_seconds(container.get("duration")) or _parse_seconds(video.get("duration")),
            tags=_read_tags(video) | _read_tags(container),
            creation_times=tuple(
                filter(None, (_read_tags(part).get("creation_time") for part in (container, video, *streams)))
            ),
            undecodable=selected.undecodable,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DecodeFailed(f"ffprobe cannot make sense of it: {error}") from None


def _parse_video_stream(stream: dict[str, Any]) -> VideoStream:
    return VideoStream(
        index=int(stream["index"]),
        codec=str(stream.get("codec_name", "unknown")),
        pixel_format=str(stream.get("pix_fmt", "")),
        width=int(stream["width"]),
        height=int(stream["height"]),
        pixel_aspect=_parse_ratio(stream.get("sample_aspect_ratio"), Fraction(1)),
        rotation=_read_rotation(stream),
        is_interlaced=stream.get("field_order") in _INTERLACED,
        matrix=_parse_colour(stream.get("color_space")),
        primaries=_parse_colour(stream.get("color_primaries")),
        transfer=_parse_colour(stream.get("color_transfer")),
        has_reserved_matrix=stream.get("color_space") == "reserved",
        fps=_read_fps(stream),
    )


def _read_rotation(stream: dict[str, Any]) -> int:
    """Clockwise degrees. ffprobe gives anticlockwise degrees from -180 to 180."""
    for data in stream.get("side_data_list", []):
        if "rotation" in data:
            return round(-float(data["rotation"]) / 90) % 4 * 90
    return 0


def _parse_ratio(value: Any, otherwise: Fraction) -> Fraction:
    with suppress(ValueError, ZeroDivisionError, TypeError):
        ratio = Fraction(str(value).replace(":", "/"))
        if Fraction(1, 10) <= ratio <= 10:
            return ratio
    return otherwise


def _read_fps(stream: dict[str, Any]) -> float | None:
    for name in ("avg_frame_rate", "r_frame_rate"):
        with suppress(ValueError, ZeroDivisionError, TypeError):
            rate = float(Fraction(str(stream.get(name))))
            if 0 < rate < 100_000:
                return round(rate, 3)
    return None


def _parse_seconds(value: Any) -> float | None:
    with suppress(TypeError, ValueError):
        seconds = float(value)
        if math.isfinite(seconds) and 0 < seconds < 10**9:
            return seconds
    return None


def _parse_colour(value: Any) -> str | None:
    known = isinstance(value, str) and re.fullmatch(r"[a-z0-9-]{1,30}", value) and value not in ("unknown", "reserved")
    return value if known else None


def _read_tags(part: dict[str, Any]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in part.get("tags", {}).items()}
