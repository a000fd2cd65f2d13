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
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MicroVideo="1" GCamera:MicroVideoOffset="{length}"/></rdf:RDF></x:xmpmeta>"""

ELEMENTS = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:Container="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><GCamera:MotionPhoto>1</GCamera:MotionPhoto><Container:Directory><rdf:Seq>
<rdf:li><Container:Item rdf:parseType="Resource"><Item:Semantic>Primary</Item:Semantic><Item:Padding>{padding}</Item:Padding></Container:Item></rdf:li>
<rdf:li><Container:Item rdf:parseType="Resource"><Item:Semantic>MotionPhoto</Item:Semantic><Item:Length>{length}</Item:Length></Container:Item></rdf:li>
{more}</rdf:Seq></Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"""

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


@pytest.mark.parametrize(
    "behind", [b"", bytes(100), b"\xff\xd8 100 random bytes " * 5], ids=["nothing", "zeros", "text"]
)
@pytest.mark.parametrize("claimed", ["right", "wrong", "none"])
@pytest.mark.parametrize("form", ["items", "elements", "offset"])
async def test_lengths_in_xmp_are_hints(
    processor: MediaProcessor, folder: Path, form: str, claimed: str, behind: bytes
) -> None:
    """The video is found, and is exactly itself, whatever follows it and whatever XMP says about its place."""
    video = make_video(".mp4")
    length = {"right": len(video), "wrong": len(video) + 199, "none": 0}[claimed]
    xmp = {"items": ITEMS, "elements": ELEMENTS, "offset": OFFSET}[form]
    data = photo(xmp.format(length=length, padding=8, more="")) + bytes(8) + video + behind
    assert await extract_motion_video(processor, folder, data) == video


async def test_google_with_something_behind_it(processor: MediaProcessor, folder: Path) -> None:
    video = make_video(".mp4")
    data = photo(ITEMS.format(length=len(video), padding=0, more=DEPTH)) + video + bytes(500)
    assert await extract_motion_video(processor, folder, data) == video


async def test_a_video_behind_a_second_picture_that_is_not_listed(processor: MediaProcessor, folder: Path) -> None:
    """The flag counts: an editor has removed the item of the video and kept that of the gain map."""
    video = make_video(".mp4")
    gain_map = photo_files.encode_jpeg(make_quarters(64, 48))
    flagged = ITEMS.format(length=len(gain_map), padding=0, more="").replace('"MotionPhoto" ', '"GainMap" ')
    assert await extract_motion_video(processor, folder, photo(flagged) + gain_map + video) == video
    unflagged = flagged.replace('MotionPhoto="1"', 'MotionPhoto="0"')
    assert await extract_motion_video(processor, folder, photo(unflagged) + gain_map + video) is None


@pytest.mark.parametrize("hinted", [True, False])
async def test_padding_before_the_video_belongs_to_it(processor: MediaProcessor, folder: Path, *, hinted: bool) -> None:
    video = struct.pack(">I4s16x", 24, b"free") + make_video(".mp4")
    data = photo(ITEMS.format(length=len(video) if hinted else 0, padding=0, more="")) + video
    assert await extract_motion_video(processor, folder, data) == video


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
async def test_a_box_of_heif(processor: MediaProcessor, folder: Path, format: str) -> None:
    """XMP's length reaches to the end of the file, over the records behind the box."""
    video = make_video(".mp4")
    records = box(b"sefd", samsung((0x0A01, b"Image_UTC_Data", b"1717171717171")))
    told = ITEMS.format(length=len(video) + len(records), padding=0, more="").encode()
    data = photo_files.encode_image(make_quarters(), format, xmp=told) + box(b"mpvd", video) + records
    assert await extract_motion_video(processor, folder, data, f".{format.lower()}") == video
    unflagged = photo_files.encode_image(make_quarters(), format) + box(b"mpvd", video + bytes(100)) + records
    assert await extract_motion_video(processor, folder, unflagged, f".{format.lower()}") == video


@pytest.mark.parametrize("length", [0, 1000, 10**9])
async def test_a_video_behind_a_heif(processor: MediaProcessor, folder: Path, length: int) -> None:
    video = make_video(".mp4")
    told = ITEMS.format(length=length, padding=0, more="").encode()
    data = photo_files.encode_image(make_quarters(), "HEIF", xmp=told) + video
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


@pytest.mark.parametrize("extra", [b"", bytes(199)])
async def test_samsung(processor: MediaProcessor, folder: Path, extra: bytes) -> None:
    """XMP's length, which newer phones write as well, includes the trailer's records."""
    video = make_video(".mp4")
    trailer = samsung(
        (0x0A01, b"Image_UTC_Data", b"1717171717171"),
        (0x0A30, b"MotionPhoto_Data", video + extra),
        (0x0BA1, b"Original_Path_Hash_Key", b"hash"),
    )
    assert await extract_motion_video(processor, folder, photo() + trailer) == video
    told = photo(ITEMS.format(length=len(trailer) - len(trailer.partition(video)[0]), padding=0, more=""))
    assert await extract_motion_video(processor, folder, told + trailer) == video


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


@pytest.mark.parametrize("cut", [slice(0), slice(-100), slice(40, None)])
async def test_a_flag_without_a_video(processor: MediaProcessor, folder: Path, cut: slice) -> None:
    video = make_video(".mp4")[cut] or b"ftyp" * 5000
    for xmp in (ITEMS.format(length=len(video), padding=0, more=""), OFFSET.format(length=-5)):
        assert await extract_motion_video(processor, folder, photo(xmp) + video) is None


async def test_a_box_that_ends_beyond_everything(processor: MediaProcessor, folder: Path) -> None:
    """Its 64-bit length is more than a file system can address."""
    endless = struct.pack(">I4sQ", 1, b"free", 2**63 - 1)
    xmp = ITEMS.format(length=len(endless), padding=0, more="")
    assert await extract_motion_video(processor, folder, photo(xmp) + endless) is None
    heif = photo_files.encode_image(make_quarters(), "HEIF", xmp=xmp.encode())
    unknown = struct.pack(">I4sQ", 1, b"abcd", 2**63 - 1)
    assert await extract_motion_video(processor, folder, heif + unknown, ".heic") is None


async def test_nothing_in_a_photo_that_claims_no_video(processor: MediaProcessor, folder: Path) -> None:
    assert await extract_motion_video(processor, folder, photo() + make_video(".mp4")) is None
    heif = photo_files.encode_image(make_quarters(), "HEIF")
    assert await extract_motion_video(processor, folder, heif + make_video(".mp4"), ".heic") is None


async def test_a_video_has_no_motion_part(processor: MediaProcessor, folder: Path) -> None:
    assert await extract_motion_video(processor, folder, make_video(".mp4"), ".mp4") is None
