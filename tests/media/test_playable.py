"""What is done to make a video playable, as a table; and the command lines that go with it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from app.formats import Format, supported
from app.media import ffmpeg
from app.media.errors import DecodeFailed
from app.media.ffmpeg import Tools
from app.media.playable import Plan, Step, plan_for
from app.media.signatures import Content
from app.media.video import AudioStream, Video, VideoStream, parse_probe

COPY, ENCODE = Step.COPY, Step.ENCODE
TOOLS = Tools("/usr/bin/ffmpeg", "/usr/bin/ffprobe", tone_mapping=True)
STREAM = VideoStream(
    index=0, codec="h264", pixel_format="yuv420p", width=1920, height=1080, pixel_aspect=Fraction(1), rotation=0,
    interlaced=False, matrix="bt709", primaries="bt709", transfer="bt709", fps=30,
)  # fmt: skip
VIDEO = Video(content=Content.MOV, picture=STREAM, sound=AudioStream(1, "aac"), duration=10, tags={})


def named(extension: str) -> Format:
    format = supported(f"film{extension}")
    assert format is not None
    return format


def video(content: Content = Content.MOV, sound: str | None = "aac", **picture: object) -> Video:
    changed = replace(STREAM, **picture)  # pyright: ignore[reportArgumentType]
    return replace(VIDEO, content=content, picture=changed, sound=None if sound is None else AudioStream(1, sound))


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
        (video(), ".3gp", Plan(COPY, COPY)),
        (video(Content.MATROSKA), ".mkv", Plan(COPY, COPY)),
        (video(Content.MPEG_TS), ".mts", Plan(COPY, COPY)),
        (video(Content.MPEG_TS, "ac3"), ".mts", Plan(COPY, ENCODE)),
        (video(Content.MATROSKA, None), ".mkv", Plan(COPY, None)),
        (video(sound="pcm_s16le"), ".mov", Plan(COPY, ENCODE)),
        (video(sound="flac"), ".mp4", Plan(COPY, ENCODE)),
        (video(codec="hevc"), ".mov", Plan(ENCODE, COPY)),
        (video(codec="mpeg4", content=Content.AVI, sound="mp3"), ".avi", Plan(ENCODE, COPY)),
        (video(codec="vp9", content=Content.MATROSKA, sound="opus"), ".webm", Plan(ENCODE, COPY)),
        (video(pixel_format="yuv422p"), ".mp4", Plan(ENCODE, COPY)),
        (video(pixel_format="yuv420p10le"), ".mp4", Plan(ENCODE, COPY)),
        (video(pixel_format="yuv444p", sound="vorbis"), ".mp4", Plan(ENCODE, ENCODE)),
        (video(transfer="arib-std-b67"), ".mov", Plan(ENCODE, COPY)),
        (video(codec="hevc", transfer="smpte2084", sound=None), ".mov", Plan(ENCODE, None)),
    ],
)
def test_what_is_needed(original: Video, extension: str, plan: Plan | None) -> None:
    assert plan_for(original, named(extension)) == plan


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
    command = ffmpeg.encode(
        TOOLS, Path("/a/film.mov"), video(codec="hevc", **stream), Plan(ENCODE, COPY), threads=2, size_limit=1000, target="b.mp4"
    )  # fmt: skip
    assert f"scale={size}:" in command[command.index("-vf") + 1]


def test_an_input_may_be_nothing_but_a_file_of_its_kind() -> None:
    for command in (
        ffmpeg.probe(TOOLS, Path("/a/-i.mov"), Content.MOV),
        ffmpeg.poster(TOOLS, Path("/a/-i.mov"), VIDEO, 1, keyframe=True, target="p.ppm"),
        ffmpeg.encode(TOOLS, Path("/a/-i.mov"), VIDEO, Plan(COPY, COPY), threads=2, size_limit=1000, target="b.mp4"),
    ):
        before = command[: command.index("-i")]
        for option, value in (
            ("-protocol_whitelist", "file"), ("-format_whitelist", "mov"), ("-f", "mov"),
            ("-enable_drefs", "0"), ("-use_absolute_path", "0"),
        ):  # fmt: skip
            assert before[before.index(option) + 1] == value
    assert "-enable_drefs" not in ffmpeg.probe(TOOLS, Path("/a/b.avi"), Content.AVI)
    with pytest.raises(ValueError, match="absolute"):
        ffmpeg.probe(TOOLS, Path("concat:a"), Content.MOV)


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
        parse_probe(output, Content.MOV)
