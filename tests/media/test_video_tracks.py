"""Which tracks of a video are played, and when: covers, commentaries, unknown codecs, edit lists, empty tracks."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from PIL import Image

from app.formats import find_format
from app.media.errors import DecodeFailed
from app.media.processor import MediaProcessor
from tests.media.odd_videos import INPUTS, make_playable, measure_pitch, read_streams, render_poster, run_ffmpeg

SOUND_440 = ("-f", "lavfi", "-i", "sine=440:duration=1")
SOUND_880 = ("-f", "lavfi", "-i", "sine=880:duration=1")
RED = ("-f", "lavfi", "-i", "color=red:size=64x48:rate=10:duration=1")
BLUE = ("-f", "lavfi", "-i", "color=blue:size=64x48:rate=10:duration=1")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
TWO_SOUNDS = (*RED, *SOUND_440, *SOUND_880, "-map", "0", "-map", "1", "-map", "2", *H264, "-c:a", "aac")


def make_film(target: Path, *arguments: str) -> Path:
    run_ffmpeg(*arguments, "-y", str(target))
    return target


def rename_codec(path: Path, codec: bytes, other: bytes) -> None:
    """Make the sample entry of the first track with `codec` that of another one."""
    data = bytearray(path.read_bytes())
    at = data.index(codec, data.index(b"stsd"))
    data[at : at + 4] = other
    path.write_bytes(data)


def remove_samples(path: Path, handler: bytes) -> None:
    """Leave no sample in a MOV's track with this handler (`vide`, `soun`)."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"trak", 0, data.index(b"mhlr" + handler))
    for box, count in ((b"stts", 8), (b"stsc", 8), (b"stco", 8), (b"stsz", 12)):
        at = data.index(box, start) + count
        data[at : at + 4] = bytes(4)
    path.write_bytes(data)


@pytest.mark.parametrize("each_processor", ["packaged"], indirect=True)  # the system's: tests/api/test_input_videos.py
async def test_the_sound_is_the_one_marked_default(each_processor: MediaProcessor, folder: Path) -> None:
    product = await make_playable(each_processor, INPUTS / "commentary-first.mkv", folder)
    assert product is not None
    assert measure_pitch(product.path) == 880
    assert len(read_streams(product.path, "stream=index", "a")["streams"]) == 1


@pytest.mark.parametrize(
    ("extension", "dispositions", "pitch"),
    [
        (".mkv", ("0", "0"), 440),
        (".mkv", ("comment", "0"), 880),
        (".mkv", ("default", "default"), 440),
        (".mkv", ("default+visual_impaired", "default"), 880),
        (".mkv", ("default+comment", "0"), 440),
        (".mp4", ("0", "default"), 880),
    ],
)
async def test_the_sound_is_chosen_by_its_disposition(
    processor: MediaProcessor, folder: Path, extension: str, dispositions: tuple[str, str], pitch: int
) -> None:
    options = [part for track, value in enumerate(dispositions) for part in (f"-disposition:a:{track}", value)]
    film = make_film(folder.parent / f"film{extension}", *TWO_SOUNDS, *options)
    product = await make_playable(processor, film, folder)
    assert product is not None, "browsers play the first track of an MP4"
    assert measure_pitch(product.path) == pitch


async def test_a_sound_that_nobody_decodes_is_left_out(each_processor: MediaProcessor, folder: Path) -> None:
    film = make_film(folder.parent / "film.mov", *TWO_SOUNDS, "-c:a", "pcm_s16le")
    rename_codec(film, b"sowt", b"mhm1")
    product = await make_playable(each_processor, film, folder)
    assert product is not None
    assert measure_pitch(product.path) == 880
    rename_codec(film, b"sowt", b"xyz1")
    silent = await make_playable(each_processor, film, folder)
    assert silent is not None
    assert read_streams(silent.path, "stream=index", "a")["streams"] == []


async def test_a_video_that_nobody_decodes_is_left_out(processor: MediaProcessor, folder: Path) -> None:
    film = make_film(folder.parent / "film.mov", *BLUE, *RED, "-map", "0", "-map", "1", *H264)
    rename_codec(film, b"avc1", b"xyz1")
    product = await make_playable(processor, film, folder)
    assert product is not None
    assert (await render_poster(processor, product.path, folder)).getpixel((32, 24))[0] > 200  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    rename_codec(film, b"avc1", b"xyz1")
    with pytest.raises(DecodeFailed, match="xyz1"):
        await render_poster(processor, film, folder)


async def test_covers_are_not_the_video(each_processor: MediaProcessor, folder: Path) -> None:
    cover = folder.parent / "cover.png"
    Image.new("RGB", (64, 48), "blue").save(cover)
    attached = ("-attach", str(cover), "-metadata:s:t", "mimetype=image/png", "-metadata:s:t", "filename=cover.png")
    as_track = (
        "-i",
        str(cover),
        *RED,
        "-map",
        "0",
        "-map",
        "1",
        "-c:v:0",
        "mjpeg",
        "-pix_fmt:v:0",
        "yuvj420p",
        "-c:v:1",
        "mpeg4",
    )
    for film in (
        make_film(folder.parent / "attached.mkv", *RED, *SOUND_440, "-c:v", "mpeg4", *attached),
        make_film(folder.parent / "track.mkv", *as_track),
    ):
        red, _, blue = (await render_poster(each_processor, film, folder)).getpixel((32, 24))  # pyright: ignore[reportGeneralTypeIssues]
        assert (red > 200, blue < 50) == (True, True), film.name
        product = await make_playable(each_processor, film, folder)
        assert product is not None
        (stream,) = read_streams(product.path, "stream=codec_name,nb_frames", "v")["streams"]
        assert stream == {"codec_name": "h264", "nb_frames": "10"}


async def test_edit_lists_are_obeyed(each_processor: MediaProcessor, folder: Path) -> None:
    """The first half second is in the file, but an edit list leaves it out, as trimming without encoding does."""
    pattern = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=2", "-f", "lavfi", "-i", "sine=duration=2")
    whole = make_film(folder.parent / "whole.mov", *pattern, *H264, "-g", "100", "-c:a", "pcm_s16le")
    film = make_film(folder.parent / "film.mov", "-ss", "0.5", "-i", str(whole), "-c", "copy")
    shown = run_ffmpeg("-i", str(film), "-map", "0:v", "-f", "framemd5", "-").splitlines()
    product = await make_playable(each_processor, film, folder)
    assert product is not None
    played = run_ffmpeg("-i", str(product.path), "-map", "0:v", "-f", "framemd5", "-").splitlines()
    assert [line.split(b",")[-1] for line in played] == [line.split(b",")[-1] for line in shown]
    for kind in ("v:0", "a:0"):
        (stream,) = read_streams(product.path, "stream=duration", kind)["streams"]
        assert float(stream["duration"]) == pytest.approx(1.5, abs=0.06), kind


async def test_avi_with_pcm(each_processor: MediaProcessor, folder: Path) -> None:
    film = make_film(folder.parent / "film.avi", *RED, *SOUND_880, "-c:v", "mjpeg", "-c:a", "pcm_u8", "-ar", "11025")
    product = await make_playable(each_processor, film, folder)
    assert product is not None
    assert measure_pitch(product.path) == 880
    for kind, codec in (("v:0", "h264"), ("a:0", "aac")):
        (stream,) = read_streams(product.path, "stream=codec_name,duration", kind)["streams"]
        assert stream["codec_name"] == codec
        assert float(stream["duration"]) == pytest.approx(1, abs=0.1)


async def test_tracks_without_samples(each_processor: MediaProcessor, folder: Path) -> None:
    film = make_film(folder.parent / "film.mov", *RED, *SOUND_440, "-c:v", "mpeg4", "-c:a", "pcm_s16be")
    remove_samples(film, b"soun")
    product = await make_playable(each_processor, film, folder)
    assert product is not None
    assert read_streams(product.path, "stream=nb_frames")["streams"] == [{"nb_frames": "10"}]
    remove_samples(film, b"vide")
    format = find_format(film.name)
    assert format is not None
    with pytest.raises(DecodeFailed):
        await each_processor.make_poster(film, format, folder)
    with pytest.raises(DecodeFailed):
        await each_processor.make_playable(film, format, folder)


async def test_portrait_by_the_matrix_of_the_track(each_processor: MediaProcessor, folder: Path) -> None:
    """Phones store the picture as the sensor lies, and write in the track's header how to turn it."""
    film = make_film(folder.parent / "film.mp4", *RED, *BLUE, "-filter_complex", "hstack", "-c:v", "mpeg4")
    data = bytearray(film.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    film.write_bytes(data)
    product = await make_playable(each_processor, film, folder)
    assert product is not None
    for path in (film, product.path):
        poster = await render_poster(each_processor, path, folder)
        assert poster.size == (48, 128)
        assert [poster.getpixel((24, y))[0] > 200 for y in (10, 118)] == [True, False]  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
