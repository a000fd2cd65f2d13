"""Command lines for ffmpeg and ffprobe. Pure. What they may open is stated in each: one file, by one demuxer.

A playlist, a script of files or a drawing under a video's name would have ffmpeg open what it names; so the demuxer is the one
that the file's first bytes call for, and nothing but plain files may be opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.media.playable import Plan, Step
from app.media.signatures import Content
from app.media.sizes import PREVIEW_EDGE, bounded
from app.media.video import Video, VideoStream

ENCODED_EDGE = 720
"""Short edge of an encoded video in pixels."""

LONGEST = 24 * 60 * 60
"""Seconds of a video that are encoded at most."""

_CRF = 23
_MAX_EDGE = 16_383
_PROBE_BYTES = 50_000_000
_PROBE_MICROSECONDS = 20_000_000
_HIGH_DEFINITION = 720
_ENTRIES = (
    "format=duration:format_tags"
    ":stream=index,codec_type,codec_name,pix_fmt,width,height,sample_aspect_ratio,field_order,color_space,color_transfer"
    ",color_primaries,avg_frame_rate,r_frame_rate,duration:stream_disposition=attached_pic:stream_tags"
    ":stream_side_data=rotation"
)


@dataclass(frozen=True, slots=True)
class Tools:
    """Absolute paths. `tone_mapping`: ffmpeg has the filters for HDR."""

    ffmpeg: str
    ffprobe: str
    tone_mapping: bool


def probe(tools: Tools, source: Path, content: Content) -> tuple[str, ...]:
    return (
        tools.ffprobe, "-hide_banner", "-v", "error", *_input(source, content), "-show_entries", _ENTRIES, "-of", "json",
    )  # fmt: skip


def poster(tools: Tools, source: Path, video: Video, second: float, *, keyframe: bool, target: str) -> tuple[str, ...]:
    """One frame as PPM into `target`, no larger than a preview: the last key frame before `second`, or exactly that one."""
    hurry = ("-skip_frame", "nokey", "-noaccurate_seek") if keyframe else ()
    filters = ",".join((*_as_shown(video.picture, tools, PREVIEW_EDGE), "format=rgb24"))
    return (
        tools.ffmpeg, "-nostdin", "-hide_banner", "-v", "error", "-threads", "2", "-ss", f"{second:.3f}", *hurry,
        *_input(source, video.content), "-map", f"0:{video.picture.index}", "-an", "-sn", "-dn", "-frames:v", "1",
        "-fps_mode", "passthrough",  # the key frame lies before the moment asked for, which otherwise drops it
        "-vf", filters, "-c:v", "ppm", "-f", "image2", "-update", "1", "-y", f"./{target}",
    )  # fmt: skip


def encode(
    tools: Tools, source: Path, video: Video, plan: Plan, *, threads: int, size_limit: int, target: str
) -> tuple[str, ...]:
    """An MP4 of at most `size_limit` bytes into `target`, with its index in front."""
    sound = ("-map", f"0:{video.sound.index}") if video.sound else ("-an",)
    return (
        tools.ffmpeg, "-nostdin", "-hide_banner", "-v", "error", "-threads", str(threads), "-fflags", "+genpts",
        *_input(source, video.content), "-map", f"0:{video.picture.index}", *sound, "-sn", "-dn",
        *_picture_options(video.picture, plan, tools), *_sound_options(plan), "-threads", str(threads),
        "-map_metadata", "-1", "-map_chapters", "-1", "-max_muxing_queue_size", "1024", "-t", str(LONGEST),
        "-fs", str(size_limit), "-movflags", "+faststart", "-f", "mp4", "-y", f"./{target}",
    )  # fmt: skip


def _input(source: Path, content: Content) -> tuple[str, ...]:
    """An absolute path begins neither as an option nor as a protocol does."""
    if not source.is_absolute():
        raise ValueError(f"no absolute path: {source}")
    inside = ("-enable_drefs", "0", "-use_absolute_path", "0") if content is Content.MOV else ()
    return (
        "-protocol_whitelist", "file", "-format_whitelist", content.value, "-f", content.value, *inside,
        "-probesize", str(_PROBE_BYTES), "-analyzeduration", str(_PROBE_MICROSECONDS), "-i", str(source),
    )  # fmt: skip


def _picture_options(picture: VideoStream, plan: Plan, tools: Tools) -> tuple[str, ...]:
    if plan.picture is Step.COPY:
        tag = ("-tag:v", "avc1") if picture.codec == "h264" else ()
        return ("-c:v", "copy", *tag)
    filters = ",".join((*_as_shown(picture, tools, ENCODED_EDGE, even=True), "format=yuv420p"))
    colours = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709") if picture.hdr else ()
    return ("-vf", filters, "-c:v", "libx264", "-preset", "veryfast", "-crf", str(_CRF), *colours)


def _sound_options(plan: Plan) -> tuple[str, ...]:
    if plan.sound is None:
        return ()
    return ("-c:a", "copy") if plan.sound is Step.COPY else ("-c:a", "aac", "-b:a", "160k", "-ac", "2")


def _as_shown(picture: VideoStream, tools: Tools, edge: int, *, even: bool = False) -> tuple[str, ...]:
    """Square pixels, whole frames, no larger than `edge` by the short edge, SDR. ffmpeg itself has rotated before."""
    width, height = bounded(*picture.shown_size, edge, _MAX_EDGE)
    if even:
        width, height = max(2, width // 2 * 2), max(2, height // 2 * 2)
    whole = ("bwdif=deint=interlaced",) if picture.interlaced else ()
    if picture.hdr and tools.tone_mapping:
        return (*whole, *_tone_mapped(picture, width, height), "setsar=1")
    assumed = picture.matrix is None and min(picture.shown_size) >= _HIGH_DEFINITION
    matrix = ":in_color_matrix=bt709" if assumed else ""
    return (*whole, f"scale={width}:{height}:flags=lanczos+accurate_rnd+full_chroma_int{matrix}", "setsar=1")


def _tone_mapped(picture: VideoStream, width: int, height: int) -> tuple[str, ...]:
    """Smaller first, then in linear light; what the file does not say is what HDR is always made with."""
    told = f"tin={picture.transfer}:min={picture.matrix or 'bt2020nc'}:pin={picture.primaries or 'bt2020'}"
    return (
        f"zscale=w={width}:h={height}:filter=bicubic:{told}",
        f"zscale={told}:t=linear:npl=100",
        "format=gbrpf32le",
        "zscale=p=bt709",
        "tonemap=tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=tv",
        "format=yuv420p",
    )
