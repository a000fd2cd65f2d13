"""The decision whether to transcode a video, as a table; ffmpeg's command lines; malformed output of ffprobe."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from app.formats import MediaFormat, find_format
from app.formats.signatures import DetectedFormat
from app.media.errors import DecodeFailed
from app.media.video import ffmpeg_commands
from app.media.video.browser_support import StreamAction, TranscodePlan, plan_transcode
from app.media.video.encoders import SOFTWARE_ENCODER
from app.media.video.ffmpeg_commands import FfmpegTools
from app.media.video.probe_output import AudioStream, ProbedVideo, VideoStream, parse_probe

COPY, ENCODE = StreamAction.COPY, StreamAction.ENCODE
TOOLS = FfmpegTools(
    "/usr/bin/ffmpeg", "/usr/bin/ffprobe", has_tone_mapping=True, has_input_filters=True, decodable=frozenset()
)
STREAM = VideoStream(
    index=0, codec="h264", pixel_format="yuv420p", width=1920, height=1080, pixel_aspect=Fraction(1), rotation=0,
    is_interlaced=False, matrix="bt709", primaries="bt709", transfer="bt709", has_reserved_matrix=False, fps=30,
)  # fmt: skip
VIDEO = ProbedVideo(
    content=DetectedFormat.MOV, video_stream=STREAM, audio_stream=AudioStream(1, "aac"), has_other_tracks_first=False,
    duration=10, tags={}, creation_times=(), undecodable=None,
)  # fmt: skip


def named(extension: str) -> MediaFormat:
    format = find_format(f"film{extension}")
    assert format is not None
    return format


def video(content: DetectedFormat = DetectedFormat.MOV, sound: str | None = "aac", **picture: object) -> ProbedVideo:
    changed = replace(STREAM, **picture)  # pyright: ignore[reportArgumentType]
    return replace(
        VIDEO, content=content, video_stream=changed, audio_stream=None if sound is None else AudioStream(1, sound)
    )


@pytest.mark.parametrize(
    ("original", "extension", "plan"),
    [
        (video(), ".mp4", None),
        (video(), ".mov", None),
        (video(), ".m4v", None),
        (video(sound=None), ".mp4", None),
        (video(sound="mp3"), ".mp4", None),
        (video(sound="opus"), ".mp4", None),
        (video(pixel_format="yuvj420p"), ".mp4", None),
        (video(rotation=90), ".mp4", None),
        (video(width=3840, height=2160), ".mp4", None),
        (video(), ".3gp", TranscodePlan(COPY, COPY)),
        (replace(VIDEO, has_other_tracks_first=True), ".mp4", TranscodePlan(COPY, COPY)),
        (video(DetectedFormat.MATROSKA), ".mkv", TranscodePlan(COPY, COPY)),
        (video(DetectedFormat.MPEG_TS), ".mts", TranscodePlan(COPY, COPY)),
        (video(DetectedFormat.MPEG_TS, "ac3"), ".mts", TranscodePlan(COPY, ENCODE)),
        (video(DetectedFormat.MATROSKA, None), ".mkv", TranscodePlan(COPY, None)),
        (video(sound="pcm_s16le"), ".mov", TranscodePlan(COPY, ENCODE)),
        (video(sound="flac"), ".mp4", TranscodePlan(COPY, ENCODE)),
        (video(codec="hevc"), ".mov", TranscodePlan(ENCODE, COPY)),
        (video(codec="mpeg4", content=DetectedFormat.AVI, sound="mp3"), ".avi", TranscodePlan(ENCODE, COPY)),
        (video(codec="vp9", content=DetectedFormat.MATROSKA, sound="opus"), ".webm", TranscodePlan(ENCODE, COPY)),
        (video(pixel_format="yuv422p"), ".mp4", TranscodePlan(ENCODE, COPY)),
        (video(pixel_format="yuv420p10le"), ".mp4", TranscodePlan(ENCODE, COPY)),
        (video(pixel_format="yuv444p", sound="vorbis"), ".mp4", TranscodePlan(ENCODE, ENCODE)),
        (video(transfer="arib-std-b67"), ".mov", TranscodePlan(ENCODE, COPY)),
        (video(matrix=None, primaries=None, transfer=None), ".mov", None),
        (video(matrix="bt470bg"), ".mov", None),
        (video(matrix="gbr"), ".mov", TranscodePlan(ENCODE, COPY)),
        (video(matrix="ycgco"), ".mp4", TranscodePlan(ENCODE, COPY)),
        (video(codec="hevc", transfer="smpte2084", sound=None), ".mov", TranscodePlan(ENCODE, None)),
    ],
)
def test_what_is_needed(original: ProbedVideo, extension: str, plan: TranscodePlan | None) -> None:
    assert plan_transcode(original, named(extension)) == plan


@pytest.mark.parametrize(
    ("stream", "size"),
    [
        ({}, "1280:720"),
        ({"width": 640, "height": 480}, "640:480"),
        ({"width": 641, "height": 479}, "640:478"),
        ({"rotation": 90}, "720:1280"),
        ({"width": 720, "height": 576, "pixel_aspect": Fraction(64, 45)}, "1024:576"),
        ({"width": 1, "height": 1}, "2:2"),
    ],
)
def test_encoded_sizes(stream: dict[str, Any], size: str) -> None:
    command = ffmpeg_commands.build_encode_command(
        TOOLS, Path("/a/film.mov"), video(codec="hevc", **stream), TranscodePlan(ENCODE, COPY), SOFTWARE_ENCODER,
        threads=2, size_limit=1000, target="b.mp4",
    )  # fmt: skip
    assert f"scale={size}:" in command[command.index("-vf") + 1]


def test_an_input_may_be_nothing_but_a_file_of_its_kind() -> None:
    for command in (
        ffmpeg_commands.build_probe_command(TOOLS, Path("/a/-i.mov"), DetectedFormat.MOV),
        ffmpeg_commands.build_poster_command(TOOLS, Path("/a/-i.mov"), VIDEO, 1, keyframe=True, target="p.ppm"),
        ffmpeg_commands.build_encode_command(
            TOOLS,
            Path("/a/-i.mov"),
            VIDEO,
            TranscodePlan(COPY, COPY),
            SOFTWARE_ENCODER,
            threads=2,
            size_limit=1000,
            target="b.mp4",
        ),
    ):
        before = command[: command.index("-i")]
        for option, value in (
            ("-protocol_whitelist", "file"), ("-format_whitelist", "mov"), ("-f", "mov"),
            ("-enable_drefs", "0"), ("-use_absolute_path", "0"),
        ):  # fmt: skip
            assert before[before.index(option) + 1] == value
    assert "-enable_drefs" not in ffmpeg_commands.build_probe_command(TOOLS, Path("/a/b.avi"), DetectedFormat.AVI)
    with pytest.raises(ValueError, match="absolute"):
        ffmpeg_commands.build_probe_command(TOOLS, Path("concat:a"), DetectedFormat.MOV)


@pytest.mark.parametrize(
    "output",
    [
        "", "{}", "[]", "null", '{"streams": 5}', '{"streams": [5]}', '{"streams": [{"codec_type": "video", "codec_name": "h264"}]}',
        '{"streams": [{"index": 0, "codec_type": "video", "codec_name": "h264", "width": 0, "height": 0}]}',
        '{"streams": [{"index": 0, "codec_type": "video", "codec_name": "h264", "width": 5, "height": 5, "side_data_list": [{"rotation": "NaN"}]}]}',
        '{"streams": [{"index": 0, "codec_type": "video", "codec_name": "png", "width": 5, "height": 5, "disposition": {"attached_pic": 1}}]}',
        '{"streams": [{"index": 0, "codec_type": "audio", "codec_name": "aac"}]}',
    ],
)  # fmt: skip
def test_what_ffprobe_may_not_say(output: str) -> None:
    with pytest.raises(DecodeFailed):
        parse_probe(output, DetectedFormat.MOV, frozenset({"h264", "png", "aac"}))


@pytest.mark.parametrize(
    ("codec", "is_reserved", "has_input_filters", "expected"),
    [
        ("hevc", True, True, ["-bsf:0", "hevc_metadata=matrix_coefficients=2"]),
        ("hevc", True, False, []),
        ("hevc", False, True, []),
        ("mpeg4", True, True, []),
    ],
)
def test_a_reserved_matrix_is_hidden_from_ffmpeg_7(
    codec: str, is_reserved: bool, has_input_filters: bool, expected: list[str]
) -> None:
    tools = replace(TOOLS, has_input_filters=has_input_filters)
    original = video(codec=codec, matrix=None, has_reserved_matrix=is_reserved)
    command = ffmpeg_commands.build_poster_command(tools, Path("/a/b.mov"), original, 1, keyframe=True, target="p.ppm")
    before = command[: command.index("-i")]
    assert [part for part in before if "bsf" in part or "metadata" in part] == expected
