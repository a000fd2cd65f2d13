"""Selects the tracks of a video that are shown and played. Pure. Works on the streams of ffprobe's JSON output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.media.errors import DecodeFailed

_PICTURE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000", "jpegls"})
"""Of covers and thumbnails, and of a video only where it has no other."""

_COVER_DISPOSITIONS = ("attached_pic", "timed_thumbnails")
_SECONDARY_DISPOSITIONS = ("comment", "hearing_impaired", "visual_impaired", "descriptions", "karaoke", "clean_effects")
"""Of sound tracks that accompany the one that most people want to hear."""


@dataclass(frozen=True, slots=True)
class SelectedStreams:
    """`are_first`: players that know nothing of dispositions play the same tracks. `undecodable`: why no video can be decoded; then `video` is
    one that cannot."""

    video: dict[str, Any]
    audio: dict[str, Any] | None
    are_first: bool
    undecodable: str | None


def select_streams(streams: Sequence[dict[str, Any]], decodable: frozenset[str]) -> SelectedStreams:
    """The best tracks, if there are any, among those whose codec is in `decodable`. Raises `DecodeFailed` if there is no video."""
    sounds = [stream for stream in streams if stream.get("codec_type") == "audio"]
    videos = [stream for stream in streams if stream.get("codec_type") == "video" and not _is_cover(stream)]
    shown = [stream for stream in videos if _has_size(stream)]
    if not shown:
        raise DecodeFailed("there is no video in it")
    decoded = [stream for stream in shown if _is_decodable(stream, decodable)]
    video = min(decoded or shown, key=_rank_video)
    heard = [stream for stream in sounds if _is_decodable(stream, decodable) and _has_samples(stream)]
    audio = min(heard, key=_rank_sound, default=None)
    return SelectedStreams(
        video,
        audio,
        are_first=[video, audio] == [videos[0], next(iter(sounds), None)],
        undecodable=None if decoded else f"its video cannot be decoded: {_name_codec(video)}",
    )


def _rank_video(stream: dict[str, Any]) -> tuple[bool, bool, bool, int]:
    is_empty = stream.get("pix_fmt") in (None, "unknown")
    return is_empty, stream.get("codec_name") in _PICTURE_CODECS, not _has(stream, "default"), int(stream["index"])


def _rank_sound(stream: dict[str, Any]) -> tuple[bool, bool, int]:
    is_secondary = any(_has(stream, disposition) for disposition in _SECONDARY_DISPOSITIONS)
    return not _has(stream, "default"), is_secondary, int(stream["index"])


def _is_cover(stream: dict[str, Any]) -> bool:
    return any(_has(stream, disposition) for disposition in _COVER_DISPOSITIONS)


def _is_decodable(stream: dict[str, Any], decodable: frozenset[str]) -> bool:
    return stream.get("codec_name") in decodable


def _has_size(stream: dict[str, Any]) -> bool:
    return int(stream.get("width", 0)) > 0 and int(stream.get("height", 0)) > 0


def _has_samples(stream: dict[str, Any]) -> bool:
    """False where ffprobe found out neither from the container nor from the track what its samples are."""
    return int(stream.get("sample_rate", 0)) > 0 and int(stream.get("channels", 0)) > 0


def _has(stream: dict[str, Any], disposition: str) -> bool:
    return bool(stream.get("disposition", {}).get(disposition))


def _name_codec(stream: dict[str, Any]) -> str:
    known = stream.get("codec_name")
    return str(known if known not in (None, "unknown", "none") else stream.get("codec_tag_string", "unknown"))
