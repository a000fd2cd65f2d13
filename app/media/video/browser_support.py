"""Decides whether browsers play a video unchanged, and which streams must be encoded if not. Pure. Equals Immich's policy *required*."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from app.formats import MediaFormat
from app.formats.signatures import DetectedFormat
from app.media.video.probe_output import ProbedVideo

AUDIO_CODECS = frozenset({"aac", "mp3", "opus"})
_CONTAINERS = frozenset({DetectedFormat.MOV})
"""MP4 and QuickTime. Immich accepts WebM and Ogg too, but neither can contain H.264."""

_UNSUPPORTED_EXTENSIONS = frozenset({".3gp", ".3gpp"})
"""MP4 family, but not supported by browsers."""

_IMPOSSIBLE_MATRICES = frozenset({"gbr", "ycgco", "smpte2085", "ictcp", "chroma-derived-nc", "chroma-derived-c"})
"""Browsers show YUV 4:2:0 that is described so in wrong colours, or not at all."""


class StreamAction(Enum):
    COPY = "copy"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class TranscodePlan:
    """Action for each stream. `audio` is None if the video has no audio stream."""

    video: StreamAction
    audio: StreamAction | None


def plan_transcode(video: ProbedVideo, format: MediaFormat) -> TranscodePlan | None:
    """None if browsers play the original unchanged."""
    stream = video.video_stream
    has_plain_colours = not stream.is_hdr and stream.matrix not in _IMPOSSIBLE_MATRICES
    copies_video = stream.codec == "h264" and stream.pixel_format.endswith("420p") and has_plain_colours
    copies_audio = video.audio_stream is None or video.audio_stream.codec in AUDIO_CODECS
    container_is_supported = video.content in _CONTAINERS and format.extension not in _UNSUPPORTED_EXTENSIONS
    if copies_video and copies_audio and container_is_supported and not video.has_other_tracks_first:
        return None
    return TranscodePlan(
        video=StreamAction.COPY if copies_video else StreamAction.ENCODE,
        audio=None if video.audio_stream is None else StreamAction.COPY if copies_audio else StreamAction.ENCODE,
    )
