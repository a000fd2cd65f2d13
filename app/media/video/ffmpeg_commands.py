"""Builds command lines for ffmpeg and ffprobe. Pure. Each allows ffmpeg to open one file, with one demuxer.

A playlist, a concat script or an SVG with the name of a video could make ffmpeg open other files and URLs. Therefore the demuxer is the one
of the detected format, and the only permitted protocol is `file`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from app.formats.signatures import DetectedFormat
from app.media.images.sizes import PREVIEW_EDGE, fit_size
from app.media.video.browser_support import StreamAction, TranscodePlan
from app.media.video.colour_filters import build_scale_filters
from app.media.video.encoders import VideoEncoder
from app.media.video.probe_output import ProbedVideo, VideoStream

ENCODED_EDGE = 720
"""Short edge of an encoded video in pixels."""

MAX_ENCODED_SECONDS = 24 * 60 * 60
"""Limit on the length of an encoded video in seconds."""

_MAX_EDGE = 16_383
_PROBE_BYTES = 50_000_000
_PROBE_MICROSECONDS = 20_000_000
_TICKS = 90_000
"""Units per second of an encoded video's timestamps, as in MPEG. By default there is one per frame at the average rate, to which ffmpeg
rounds."""

_ENTRIES = (
    "format=duration:format_tags"
    ":stream=index,codec_type,codec_name,pix_fmt,width,height,sample_aspect_ratio,field_order,color_space,color_transfer"
    ",color_primaries,avg_frame_rate,r_frame_rate,duration,codec_tag_string,sample_rate,channels"
    ":stream_disposition:stream_tags:stream_side_data=rotation"
)


@dataclass(frozen=True, slots=True)
class FfmpegTools:
    """Absolute paths. `has_tone_mapping`: ffmpeg has the filters that convert HDR to SDR. `has_input_filters`: it has bitstream filters for
    inputs (since version 7). `decodable`: names of the codecs that it decodes."""

    ffmpeg: str
    ffprobe: str
    has_tone_mapping: bool
    has_input_filters: bool
    decodable: frozenset[str]


def build_probe_command(tools: FfmpegTools, source: Path, content: DetectedFormat) -> tuple[str, ...]:
    return (
        tools.ffprobe, "-hide_banner", "-v", "error", *_input_options(source, content), "-show_entries", _ENTRIES, "-of", "json",
    )  # fmt: skip


def build_poster_command(
    tools: FfmpegTools, source: Path, video: ProbedVideo, second: float, *, keyframe: bool, target: str
) -> tuple[str, ...]:
    """Write one frame as PPM into `target`, no larger than a preview: the last key frame before `second`, or the frame at `second`."""
    seek_options = ("-skip_frame", "nokey", "-noaccurate_seek") if keyframe else ()
    filters = ",".join((*_display_filters(video.video_stream, tools, PREVIEW_EDGE), "format=rgb24"))
    return (
        tools.ffmpeg, "-nostdin", "-hide_banner", "-v", "error", "-threads", "2", "-ss", f"{second:.3f}", *seek_options,
        *_bitstream_options(video.video_stream, tools), *_input_options(source, video.content), "-map", f"0:{video.video_stream.index}", "-an", "-sn", "-dn", "-frames:v", "1",
        "-fps_mode", "passthrough",  # otherwise ffmpeg drops the key frame, which lies before the requested time
        "-vf", filters, "-c:v", "ppm", "-f", "image2", "-update", "1", "-y", f"./{target}",
    )  # fmt: skip


def build_encode_command(
    tools: FfmpegTools,
    source: Path,
    video: ProbedVideo,
    plan: TranscodePlan,
    encoder: VideoEncoder,
    *,
    threads: int,
    size_limit: int,
    target: str,
) -> tuple[str, ...]:
    """Write an MP4 of at most `size_limit` bytes into `target`, with the `moov` box first (faststart)."""
    device_options = encoder.device_options if plan.video is StreamAction.ENCODE else ()
    audio_map = ("-map", f"0:{video.audio_stream.index}") if video.audio_stream else ("-an",)
    return (
        tools.ffmpeg, "-nostdin", "-hide_banner", "-v", "error", "-threads", str(threads), "-fflags", "+genpts", *device_options,
        *_bitstream_options(video.video_stream, tools), *_input_options(source, video.content), "-map", f"0:{video.video_stream.index}", *audio_map, "-sn", "-dn",
        *_video_options(video, plan, tools, encoder), *_audio_options(plan), "-threads", str(threads),
        "-map_metadata", "-1", "-map_chapters", "-1", "-max_muxing_queue_size", "1024", "-t", str(MAX_ENCODED_SECONDS),
        "-fs", str(size_limit), "-movflags", "+faststart", "-f", "mp4", "-y", f"./{target}",
    )  # fmt: skip


def _bitstream_options(stream: VideoStream, tools: FfmpegTools) -> tuple[str, ...]:
    """ffmpeg 7 decodes no video whose matrix is a reserved number: replace it by 2, unspecified."""
    if not stream.has_reserved_matrix or not tools.has_input_filters or stream.codec not in _MATRIX_FILTERS:
        return ()
    return (f"-bsf:{stream.index}", _MATRIX_FILTERS[stream.codec])


_MATRIX_FILTERS = {
    "h264": "h264_metadata=matrix_coefficients=2",
    "hevc": "hevc_metadata=matrix_coefficients=2",
    "av1": "av1_metadata=matrix_coefficients=2",
    "mpeg2video": "mpeg2_metadata=matrix_coefficients=2",
    "vp9": "vp9_metadata=color_space=unknown",
}


def _input_options(source: Path, content: DetectedFormat) -> tuple[str, ...]:
    """The path must be absolute: ffmpeg takes it neither for an option nor for a URL. Raises `ValueError`."""
    if not source.is_absolute():
        raise ValueError(f"no absolute path: {source}")
    reference_options = ("-enable_drefs", "0", "-use_absolute_path", "0") if content is DetectedFormat.MOV else ()
    return (
        "-protocol_whitelist", "file", "-format_whitelist", content.value, "-f", content.value, *reference_options,
        "-probesize", str(_PROBE_BYTES), "-analyzeduration", str(_PROBE_MICROSECONDS), "-i", str(source),
    )  # fmt: skip


def _video_options(
    video: ProbedVideo, plan: TranscodePlan, tools: FfmpegTools, encoder: VideoEncoder
) -> tuple[str, ...]:
    stream = video.video_stream
    if plan.video is StreamAction.COPY:
        tag = ("-tag:v", "avc1") if stream.codec == "h264" else ()
        return ("-c:v", "copy", *tag)
    filters = ",".join((*_display_filters(stream, tools, ENCODED_EDGE, encode=True), *encoder.upload_filters))
    codec = ("-c:v", encoder.codec, *encoder.quality_options)
    return ("-vf", filters, *_timestamp_options(video.duration), *codec)


def _timestamp_options(duration: float | None) -> tuple[str, ...]:
    """Neither repeat nor move a frame. ffmpeg 8 gives a frame the duration of another one where frames are missing, and the video would
    end later than the original."""
    options = ("-fps_mode", "vfr", "-enc_time_base", f"1:{_TICKS}")
    if duration is None:
        return options
    end = math.ceil(duration * _TICKS)
    shortened = f"if(gt(PTS+DURATION\\,{end})\\,max(1\\,{end}-PTS)\\,DURATION)"
    return (*options, "-bsf:v", f"setts=pts=PTS:dts=DTS:duration={shortened}")


def _audio_options(plan: TranscodePlan) -> tuple[str, ...]:
    if plan.audio is None:
        return ()
    return ("-c:a", "copy") if plan.audio is StreamAction.COPY else ("-c:a", "aac", "-b:a", "160k", "-ac", "2")


def _display_filters(stream: VideoStream, tools: FfmpegTools, edge: int, *, encode: bool = False) -> tuple[str, ...]:
    """Filters to progressive SDR frames with square pixels and a short edge of at most `edge` pixels. ffmpeg applies the rotation before them."""
    width, height = fit_size(*stream.display_size, edge, _MAX_EDGE)
    if encode:
        width, height = max(2, width // 2 * 2), max(2, height // 2 * 2)
    deinterlace = ("bwdif=deint=interlaced",) if stream.is_interlaced else ()
    scale = build_scale_filters(stream, width, height, has_zscale=tools.has_tone_mapping, encode=encode)
    return (*deinterlace, *scale, "setsar=1")
