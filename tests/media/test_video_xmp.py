"""The XMP packet of a video, as programs that manage photos write it: exiftool into a box `uuid` of MP4, and into the user data of MOV."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from app.formats import find_format
from app.media.metadata.media_metadata import MediaMetadata
from app.media.processor import MediaProcessor
from tests.media.sidecar_files import make_sidecar
from tests.media.video_files import AAC, H264, make_video
from tests.media.xmp_files import make_xmp
from tests.real.archive_programs import program

PLACED = ("-XMP:GPSLatitude=52.5", "-XMP:GPSLongitude=13.4", "-XMP:Rating=4", "-XMP:Description=in the packet")
ORIGINAL = "-XMP-exif:DateTimeOriginal=2019:07:01 12:00:00"
EXPORTED = "-XMP-xmp:CreateDate=2023:01:01 00:00:00+05:00"
CREATED = "2024-05-06T07:08:09Z"
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


async def read(processor: MediaProcessor, source: Path, sidecar: Path | None = None) -> MediaMetadata:
    format = find_format(source.name)
    assert format is not None
    return (await processor.read_metadata(source, format, sidecar)).metadata


def write_video(folder: Path, extension: str, *tags: str, created: str = CREATED) -> Path:
    source = folder / f"video{extension}"
    source.write_bytes(make_video(extension, *H264, *AAC, "-metadata", f"creation_time={created}"))
    if tags:
        command = [program("exiftool"), "-q", "-overwrite_original", *tags, str(source)]
        subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return source


@pytest.mark.parametrize("extension", [".mp4", ".mov"])
async def test_the_packet_goes_before_the_container(processor: MediaProcessor, folder: Path, extension: str) -> None:
    source = write_video(folder, extension, *PLACED, ORIGINAL, EXPORTED)
    read_back = await read(processor, source)
    assert (read_back.rating, read_back.description) == (4, "in the packet")
    assert (read_back.latitude, read_back.longitude) == pytest.approx((52.5, 13.4), abs=1e-6)
    assert read_back.date_time_original is not None
    assert (read_back.date_time_original.isoformat(), read_back.time_zone) == (
        "2019-07-01T12:00:00+02:00",
        "Europe/Berlin",
    )
    assert read_back.video_codec == "h264"

    sidecar = folder / "video.xmp"
    sidecar.write_bytes(make_sidecar(2, "beside it"))
    assert (await read(processor, source, sidecar)).description == "beside it"


async def test_the_date_of_an_export_does_not(processor: MediaProcessor, folder: Path) -> None:
    shown = await read(processor, write_video(folder, ".mp4", EXPORTED))
    assert shown.date_time_original is not None
    assert (shown.date_time_original.isoformat(), shown.time_zone) == ("2024-05-06T07:08:09+00:00", None)
    alone = await read(processor, write_video(folder, ".mp4", EXPORTED, created="1970-01-01T00:00:00Z"))
    assert alone.date_time_original is not None
    assert (alone.date_time_original.isoformat(), alone.time_zone) == ("2023-01-01T00:00:00+05:00", "UTC+5")


DEEP = make_xmp({"xmp:Rating": "4"}).replace(b"</rdf:RDF>", b"<a>" * 100_000 + b"</a>" * 100_000 + b"</rdf:RDF>")


@pytest.mark.parametrize("packet", [b"", b"no XML", DEEP, b"<!DOCTYPE x>" + make_xmp({"xmp:Rating": "4"})], ids=len)
async def test_a_packet_that_cannot_be_read_is_ignored(processor: MediaProcessor, folder: Path, packet: bytes) -> None:
    source = write_video(folder, ".mp4")
    box = struct.pack(">I", 24 + len(packet)) + b"uuid" + XMP_UUID + packet
    source.write_bytes(source.read_bytes() + box)
    metadata = await read(processor, source)
    assert (metadata.rating, metadata.video_codec) == (None, "h264")
    assert metadata.date_time_original is not None
