"""Timestamps and colours of videos as phones, editors and recorders really write them, with each ffmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from app.media.processor import MediaProcessor
from tests.media.odd_videos import INPUTS, make_playable, read_streams, render_poster
from tests.real.archive_programs import program


def read_timestamps(path: Path) -> list[float]:
    """When each frame of the video is shown, in seconds after the first."""
    packets = read_streams(path, "packet=pts_time")["packets"]
    times = sorted(float(packet["pts_time"]) for packet in packets)
    return [time - times[0] for time in times]


@pytest.mark.parametrize(("name", "frames", "seconds"), [("vfr60.mp4", 180, 3.004), ("hole.mp4", 72, 4.5)])
async def test_every_frame_keeps_its_time(
    each_processor: MediaProcessor, folder: Path, name: str, frames: int, seconds: float
) -> None:
    product = await make_playable(each_processor, INPUTS / name, folder)
    assert product is not None
    expected, times = read_timestamps(INPUTS / name), read_timestamps(product.path)
    assert len(times) == len(expected) == frames
    assert max(abs(time - right) for time, right in zip(times, expected, strict=True)) <= 0.001
    duration = read_streams(product.path, "format=duration")["format"]["duration"]
    assert float(duration) == pytest.approx(seconds, abs=0.02)


PLAYABLE_MATRICES = (None, "unknown", "bt709", "smpte170m", "bt470bg")


def make_described(folder: Path, matrix: int, primaries: int, transfer: int, *, codec: str = "hevc") -> Path:
    """Red, of 128 x 96 pixels in BT.601, described by these numbers of H.273."""
    described, target = (
        folder / f"{matrix}-{primaries}-{transfer}-plain.mp4",
        folder / f"{matrix}-{primaries}-{transfer}.mp4",
    )
    encoder = ("libx265", "-x265-params", "log-level=error") if codec == "hevc" else ("libx264",)
    picture = "color=red:size=128x96:rate=5:duration=1,scale=out_color_matrix=bt601,format=yuv420p"
    command = [program("ffmpeg"), "-v", "error", "-f", "lavfi", "-i", picture, "-c:v", *encoder, "-preset", "ultrafast"]
    subprocess.run([*command, "-tag:v", "hvc1" if codec == "hevc" else "avc1", str(described)], check=True, timeout=60)
    colours = f"matrix_coefficients={matrix}:colour_primaries={primaries}:transfer_characteristics={transfer}"
    rewrite = [
        program("ffmpeg"),
        "-v",
        "error",
        "-i",
        str(described),
        "-c",
        "copy",
        "-bsf:v",
        f"{codec}_metadata={colours}",
    ]
    subprocess.run([*rewrite, str(target)], check=True, timeout=60)
    return target


@pytest.mark.parametrize("name", ["hevc-ycgco.mp4", "hevc-pq-matrix3.mp4", "hevc-matrix0-420.mp4"])
async def test_odd_colours_are_played(each_processor: MediaProcessor, folder: Path, name: str) -> None:
    assert (await render_poster(each_processor, INPUTS / name, folder)).width
    product = await make_playable(each_processor, INPUTS / name, folder)
    assert product is not None
    (stream,) = read_streams(product.path, "stream=color_space,pix_fmt")["streams"]
    assert stream["pix_fmt"] == "yuv420p"
    assert stream.get("color_space") in PLAYABLE_MATRICES


@pytest.mark.parametrize(
    ("matrix", "primaries", "transfer"),
    [(2, 2, 2), (0, 2, 2), (3, 3, 3), (15, 200, 200), (5, 5, 5), (14, 2, 2)],
    ids=["unknown", "gbr", "reserved", "beyond the table", "bt470bg", "ictcp"],
)  # fmt: skip
async def test_what_a_wrong_description_says_is_not_believed(
    processor: MediaProcessor, folder: Path, matrix: int, primaries: int, transfer: int
) -> None:
    """Players take small videos for BT.601 where the description cannot be right."""
    source = make_described(folder.parent, matrix, primaries, transfer)
    assert_red(await render_poster(processor, source, folder))
    product = await make_playable(processor, source, folder)
    assert product is not None
    (stream,) = read_streams(product.path, "stream=color_space")["streams"]
    assert stream["color_space"] in ("smpte170m", "bt470bg")


async def test_h264_with_an_impossible_description_is_encoded_again(processor: MediaProcessor, folder: Path) -> None:
    product = await make_playable(processor, make_described(folder.parent, 0, 2, 2, codec="h264"), folder)
    assert product is not None
    (stream,) = read_streams(product.path, "stream=color_space")["streams"]
    assert stream.get("color_space") in PLAYABLE_MATRICES
    assert_red(await render_poster(processor, product.path, folder))


def assert_red(image: Image.Image) -> None:
    red, green, blue = image.resize((1, 1)).getpixel((0, 0))  # pyright: ignore[reportGeneralTypeIssues]
    assert red > 240, (red, green, blue)
    assert max(green, blue) < 15, (red, green, blue)
