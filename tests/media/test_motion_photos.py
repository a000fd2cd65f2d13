"""The exact byte range of the video inside a motion photo, in the formats of Google and Samsung."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from app.formats import find_format
from app.media.processor import MediaProcessor
from tests.media import photo_files
from tests.media.photo_files import make_quarters
from tests.media.video_files import make_video

ITEMS = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:Camera="http://ns.google.com/photos/1.0/camera/" xmlns:Container="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/" Camera:MotionPhoto="1"><Container:Directory><rdf:Seq>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="Primary" Item:Length="0" Item:Padding="{padding}"/></rdf:li>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4" Item:Semantic="MotionPhoto" Item:Length="{length}"/></rdf:li>
{more}</rdf:Seq></Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"""

OFFSET = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MicroVideo="1" GCamera:MicroVideoOffset="{offset}"/></rdf:RDF></x:xmpmeta>"""

DEPTH = """<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="Depth" Item:Length="500"/></rdf:li>"""


async def extract_motion_video(
    processor: MediaProcessor, folder: Path, data: bytes, extension: str = ".jpg"
) -> bytes | None:
    """The bytes of the found range; None if no video is found."""
    source = folder.parent / f"motion{extension}"
    source.write_bytes(data)
    format = find_format(source.name)
    assert format is not None
    where = await processor.find_motion_video(source, format)
    assert where is None or (where.last is not None and where.last < len(data))
    return None if where is None else data[where.first : (where.last or 0) + 1]


def photo(xmp: str = "") -> bytes:
    return photo_files.encode_jpeg(make_quarters(), **({"xmp": xmp.encode()} if xmp else {}))


async def test_google(processor: MediaProcessor, folder: Path) -> None:
    video = make_video(".mp4")
    data = photo(ITEMS.format(length=len(video), padding=8, more="")) + bytes(8) + video
    assert await extract_motion_video(processor, folder, data) == video


async def test_google_with_something_behind_it(processor: MediaProcessor, folder: Path) -> None:
    video = make_video(".mp4")
    data = photo(ITEMS.format(length=len(video), padding=0, more=DEPTH)) + video + bytes(500)
    assert await extract_motion_video(processor, folder, data) == video


async def test_google_as_it_was(processor: MediaProcessor, folder: Path) -> None:
    video = make_video(".mp4")
    assert await extract_motion_video(processor, folder, photo(OFFSET.format(offset=len(video))) + video) == video


async def test_google_in_heif(processor: MediaProcessor, folder: Path) -> None:
    video = make_video(".mp4")
    data = photo_files.encode_image(make_quarters(), "HEIF") + struct.pack(">I4s", 8 + len(video), b"mpvd") + video
    assert await extract_motion_video(processor, folder, data, ".heic") == video


def samsung(*records: tuple[int, bytes, bytes]) -> bytes:
    """Samsung's trailer of `records`: type, name, data."""
    body, directory = b"", b""
    total = sum(8 + len(name) + len(data) for _, name, data in records)
    for kind, name, data in records:
        record = struct.pack("<HHI", 0, kind, len(name)) + name + data
        directory += struct.pack("<HHII", 0, kind, total - len(body), len(record))
        body += record
    header = b"SEFH" + struct.pack("<II", 107, len(records)) + directory
    return body + header + struct.pack("<I", len(header)) + b"SEFT"


async def test_samsung(processor: MediaProcessor, folder: Path) -> None:
    video = make_video(".mp4")
    trailer = samsung(
        (0x0A01, b"Image_UTC_Data", b"1717171717171"),
        (0x0A30, b"MotionPhoto_Data", video),
        (0x0BA1, b"Original_Path_Hash_Key", b"hash"),
    )
    assert await extract_motion_video(processor, folder, photo() + trailer) == video


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        samsung((0x0A01, b"Image_UTC_Data", b"1717171717171")),
        samsung((0x0A30, b"MotionPhoto_Data", b"this is no video")),
        b"SEFH" + bytes(8) + struct.pack("<I", 0xFFFFFFFF) + b"SEFT",
        b"SEFH\0\0\0\0\1\0\0\0"
        + struct.pack("<HHII", 0, 0x0A30, 0xFFFFFFF0, 0xFFFFFFFF)
        + struct.pack("<I", 24)
        + b"SEFT",
    ],
)
async def test_nothing_where_there_is_none(processor: MediaProcessor, folder: Path, tail: bytes) -> None:
    assert await extract_motion_video(processor, folder, photo() + tail) is None


@pytest.mark.parametrize("offset", [1, 10**9, -5])
async def test_an_offset_that_leads_nowhere(processor: MediaProcessor, folder: Path, offset: int) -> None:
    assert (
        await extract_motion_video(processor, folder, photo(OFFSET.format(offset=offset)) + make_video(".mp4")) is None
    )
    claimed = ITEMS.format(length=offset, padding=0, more="")
    assert await extract_motion_video(processor, folder, photo(claimed) + make_video(".mp4")) is None


async def test_a_video_has_no_motion_part(processor: MediaProcessor, folder: Path) -> None:
    assert await extract_motion_video(processor, folder, make_video(".mp4"), ".mp4") is None
