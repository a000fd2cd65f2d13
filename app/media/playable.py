"""What a video needs to be played by browsers, and nothing more. Pure: Immich's policy *required*, as a table can test it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from app.formats import Format
from app.media.signatures import Content
from app.media.video import Video

AUDIO_CODECS = frozenset({"aac", "mp3", "opus"})
_CONTAINERS = frozenset({Content.MOV})
"""MP4 and QuickTime. Immich plays WebM and Ogg too, but neither of them may hold H.264."""

_UNLISTED = frozenset({".3gp", ".3gpp"})
"""Of the same family, but not on the list of what browsers take."""


class Step(Enum):
    COPY = "copy"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the two streams; `sound` None where there is none."""

    picture: Step
    sound: Step | None


def plan_for(video: Video, format: Format) -> Plan | None:
    """None where browsers play the original as it is."""
    picture = video.picture
    shown_as_it_is = picture.codec == "h264" and picture.pixel_format.endswith("420p") and not picture.hdr
    heard_as_it_is = video.sound is None or video.sound.codec in AUDIO_CODECS
    container = video.content in _CONTAINERS and format.extension not in _UNLISTED
    if shown_as_it_is and heard_as_it_is and container:
        return None
    return Plan(
        picture=Step.COPY if shown_as_it_is else Step.ENCODE,
        sound=None if video.sound is None else Step.COPY if heard_as_it_is else Step.ENCODE,
    )
