"""What a video needs to be played by browsers, and nothing more. Pure: Immich's policy *required*, as a table can test it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from app.formats import MediaFormat
from app.media.containers.signatures import DetectedFormat
from app.media.video.probe_output import ProbedVideo

AUDIO_CODECS = frozenset({"aac", "mp3", "opus"})
_CONTAINERS = frozenset({DetectedFormat.MOV})
"""MP4 and QuickTime. Immich plays WebM and Ogg too, but neither of them may hold H.264."""

_UNLISTED = frozenset({".3gp", ".3gpp"})
"""Of the same family, but not on the list of what browsers take."""


class StreamAction(Enum):
    COPY = "copy"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class TranscodePlan:
    """What becomes of the two streams; `audio` None where there is none."""

    video: StreamAction
    audio: StreamAction | None


def plan_transcode(video: ProbedVideo, format: MediaFormat) -> TranscodePlan | None:
    """None where browsers play the original as it is."""
    picture = video.video_stream
    shown_as_it_is = picture.codec == "h264" and picture.pixel_format.endswith("420p") and not picture.is_hdr
    heard_as_it_is = video.audio_stream is None or video.audio_stream.codec in AUDIO_CODECS
    container = video.content in _CONTAINERS and format.extension not in _UNLISTED
    if shown_as_it_is and heard_as_it_is and container:
        return None
    return TranscodePlan(
        video=StreamAction.COPY if shown_as_it_is else StreamAction.ENCODE,
        audio=None if video.audio_stream is None else StreamAction.COPY if heard_as_it_is else StreamAction.ENCODE,
    )
