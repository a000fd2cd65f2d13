"""Timestamps and colours of videos as phones, editors and recorders really write them, with each ffmpeg."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from app.media.processor import MediaProcessor
from tests.media.odd_videos import (
    INPUTS,
    PLAYABLE_MATRICES,
    make_playable,
    read_streams,
    read_timestamps,
    render_poster,
    run_ffmpeg,
)


@pytest.mark.parametrize("each_processor", ["packaged"], indirect=True)  # the system's: tests/api/test_input_videos.py
async def test_every_frame_keeps_its_time(each_processor: MediaProcessor, folder: Path) -> None:
    """A hole of 1.5 s in 72 frames."""
    product = await make_playable(each_processor, INPUTS / "hole.mp4", folder)
    assert product is not None
    expected, times = read_timestamps(INPUTS / "hole.mp4"), read_timestamps(product.path)
    assert len(times) == len(expected) == 72
    assert max(abs(time - right) for time, right in zip(times, expected, strict=True)) <= 0.001
    duration = read_streams(product.path, "format=duration")["format"]["duration"]
    assert float(duration) == pytest.approx(4.5, abs=0.02)


def make_described(folder: Path, matrix: int, primaries: int, transfer: int, *, codec: str = "hevc") -> Path:
    """Red, of 128 x 96 pixels in BT.601, described by these numbers of H.273."""
    plain, target = folder / "plain.mp4", folder / "described.mp4"
    encoder = ("libx265", "-x265-params", "log-level=error") if codec == "hevc" else ("libx264",)
    picture = "color=red:size=128x96:rate=5:duration=1,scale=out_color_matrix=bt601,format=yuv420p"
    run_ffmpeg("-f", "lavfi", "-i", picture, "-c:v", *encoder, "-preset", "ultrafast", str(plain))
    colours = f"matrix_coefficients={matrix}:colour_primaries={primaries}:transfer_characteristics={transfer}"
    run_ffmpeg("-i", str(plain), "-c", "copy", "-bsf:v", f"{codec}_metadata={colours}", str(target))
    return target


@pytest.mark.parametrize("each_processor", ["packaged"], indirect=True)  # the system's: tests/api/test_input_videos.py
async def test_odd_colours_are_played(each_processor: MediaProcessor, folder: Path) -> None:
    assert (await render_poster(each_processor, INPUTS / "hevc-ycgco.mp4", folder)).width
    product = await make_playable(each_processor, INPUTS / "hevc-ycgco.mp4", folder)
    assert product is not None
    (stream,) = read_streams(product.path, "stream=color_space,pix_fmt")["streams"]
    assert stream["pix_fmt"] == "yuv420p"
    assert stream.get("color_space") in PLAYABLE_MATRICES


@pytest.mark.parametrize(
    ("matrix", "primaries", "transfer"),
    [(0, 2, 2), (3, 3, 3), (15, 200, 200), (5, 5, 5)],
    ids=["gbr", "reserved", "beyond the table", "bt470bg"],
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
