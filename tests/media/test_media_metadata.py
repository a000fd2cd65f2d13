"""Metadata of photos: valid, unusual and malformed EXIF and XMP."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from app.formats import find_format
from app.media.metadata.exif import build_metadata, clean_text, get_xmp_packet
from app.media.metadata.media_metadata import MediaMetadata, format_zone
from app.media.metadata.xmp import ContainerItem, XmpProperties, parse_xmp
from app.media.processor import MediaProcessor
from tests.media import photo_files
from tests.media.photo_files import make_quarters

JST = timezone(timedelta(hours=9))
CEST = timezone(timedelta(hours=2))

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" xmp:Rating="4" GPano:ProjectionType="equirectangular">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">A caf\xc3\xa9</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def exif(
    main: dict[int, object] | None = None,
    details: dict[int, object] | None = None,
    gps_tags: dict[int, object] | None = None,
) -> Image.Exif:
    written_exif = Image.Exif()
    written_exif.update(main or {})
    written_exif.get_ifd(IFD.Exif).update(details or {})
    written_exif.get_ifd(IFD.GPSInfo).update(gps_tags or {})
    return written_exif


def reread(written_exif: Image.Exif, **options: object) -> MediaMetadata:
    """The metadata after writing the EXIF into a JPEG and reading it back."""
    with Image.open(io.BytesIO(photo_files.encode_jpeg(make_quarters(16, 16), exif=written_exif, **options))) as image:
        return build_metadata(image.getexif(), get_xmp_packet(image))


FULL = exif(
    {
        Base.Make: "Camera Works",
        Base.Model: "Model One",
        Base.ImageDescription: "Straße am Abend".encode(),
        Base.DateTime: "2024:06:01 10:00:00",
        0x4746: 3,
    },
    {
        Base.LensModel: "50mm F1.8",
        Base.ExposureTime: IFDRational(1, 250),
        Base.FNumber: IFDRational(18, 10),
        Base.ISOSpeedRatings: 400,
        Base.FocalLength: IFDRational(50, 1),
        Base.DateTimeOriginal: "2024:05:31 18:30:15",
        Base.SubsecTimeOriginal: "25",
        Base.OffsetTimeOriginal: "+02:00",
    },
    {
        GPS.GPSLatitudeRef: "S",
        GPS.GPSLatitude: (33.0, 51.0, 24.84),
        GPS.GPSLongitudeRef: "E",
        GPS.GPSLongitude: (151.0, 12.0, 55.08),
    },
)


async def test_all_of_it_comes_through_the_processor(processor: MediaProcessor, folder: Path) -> None:
    source = folder.parent / "photo.jpg"
    source.write_bytes(photo_files.encode_jpeg(make_quarters(), exif=FULL))
    format = find_format(source.name)
    assert format is not None
    metadata = (await processor.read_metadata(source, format)).metadata
    assert metadata.date_time_original == datetime(2024, 5, 31, 18, 30, 15, 250_000, tzinfo=CEST)
    assert metadata.to_json() == {
        "make": "Camera Works",
        "model": "Model One",
        "lensModel": "50mm F1.8",
        "exposureTime": "1/250",
        "fNumber": 1.8,
        "iso": 400,
        "focalLength": 50.0,
        "dateTimeOriginal": "2024-05-31T18:30:15.250000+02:00",
        "modifyDate": "2024-06-01T10:00:00",
        "timeZone": "UTC+2",
        "latitude": -33.8569,
        "longitude": 151.2153,
        "rating": 3,
        "description": "Straße am Abend",
    }
    assert MediaMetadata.from_json(json.loads(json.dumps(metadata.to_json()))) == metadata


@pytest.mark.parametrize("extension", [".png", ".webp", ".avif", ".heic", ".tif"])
async def test_other_formats_say_as_much(processor: MediaProcessor, folder: Path, extension: str) -> None:
    source = folder.parent / f"photo{extension}"
    format = {".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".heic": "HEIF", ".tif": "TIFF"}[extension]
    source.write_bytes(photo_files.encode_image(make_quarters(), format, exif=FULL.tobytes()))
    known = find_format(source.name)
    assert known is not None
    metadata = (await processor.read_metadata(source, known)).metadata
    assert (metadata.make, metadata.lens_model, metadata.exposure_time) == ("Camera Works", "50mm F1.8", "1/250")
    assert metadata.time_zone == "UTC+2"
    assert (metadata.latitude, metadata.longitude) == (-33.8569, 151.2153)


@pytest.mark.parametrize(
    ("details", "gps_tags", "expected"),
    [
        ({Base.DateTimeOriginal: "2024:05:31 18:30:15"}, {}, datetime(2024, 5, 31, 18, 30, 15)),  # noqa: DTZ001
        ({Base.DateTimeDigitized: "2024:05:31 18:30:15", Base.OffsetTimeDigitized: "Z"}, {}, datetime(2024, 5, 31, 18, 30, 15, tzinfo=UTC)),
        ({Base.DateTimeOriginal: "2024:05:31 18:30:15", Base.OffsetTime: "+09:00"}, {}, datetime(2024, 5, 31, 18, 30, 15, tzinfo=JST)),
        (
            {Base.DateTimeOriginal: "2024:06:01 03:30:15"},
            {GPS.GPSDateStamp: "2024:05:31", GPS.GPSTimeStamp: (18.0, 30.0, 12.0)},
            datetime(2024, 6, 1, 3, 30, 15, tzinfo=JST),
        ),
        (
            {Base.DateTimeOriginal: "2024:05:31 18:40:15"},
            {GPS.GPSDateStamp: "2024:05:31", GPS.GPSTimeStamp: (18.0, 33.0, 0.0)},
            datetime(2024, 5, 31, 18, 40, 15),  # noqa: DTZ001 - a difference of seven minutes gives no zone
        ),
        ({}, {GPS.GPSDateStamp: "2024:05:31", GPS.GPSTimeStamp: (18.0, 30.0, 12.0)}, datetime(2024, 5, 31, 18, 30, 12, tzinfo=UTC)),
        ({Base.DateTimeOriginal: "0000:00:00 00:00:00"}, {}, None),
        ({Base.DateTimeOriginal: "    :  :     :  :  "}, {}, None),
        ({Base.DateTimeOriginal: "2024:02:31 18:30:15"}, {}, None),
        ({Base.DateTimeOriginal: "2024:05:31 18:30:15", Base.OffsetTimeOriginal: "+99:00"}, {}, datetime(2024, 5, 31, 18, 30, 15)),  # noqa: DTZ001
    ],
)  # fmt: skip
def test_dates(details: dict[int, object], gps_tags: dict[int, object], expected: datetime | None) -> None:
    metadata = reread(exif(details=details, gps_tags=gps_tags))
    assert metadata.date_time_original == expected
    assert metadata.time_zone == format_zone(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [((1, 250), "1/250"), ((10, 2500), "1/250"), ((1, 4), "1/4"), ((3, 10), "0.3"), ((5, 2), "2.5"), ((30, 1), "30"), ((0, 1), None), ((1, 0), None)],
)  # fmt: skip
def test_exposures(value: tuple[int, int], expected: str | None) -> None:
    assert reread(exif(details={Base.ExposureTime: IFDRational(*value)})).exposure_time == expected


@pytest.mark.parametrize(
    "gps_tags",
    [
        {},
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (95.0, 0.0, 0.0), GPS.GPSLatitudeRef: "N", GPS.GPSLongitude: (10.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (52.0, 30.0, 0.0), GPS.GPSLatitudeRef: "N"},
    ],
)
def test_no_place(gps_tags: dict[int, object]) -> None:
    metadata = reread(exif(gps_tags=gps_tags))
    assert (metadata.latitude, metadata.longitude) == (None, None)


def test_xmp_speaks_where_exif_does_not() -> None:
    metadata = reread(exif(), xmp=XMP)
    assert (metadata.rating, metadata.description, metadata.projection_type) == (4, "A café", "EQUIRECTANGULAR")


@pytest.mark.parametrize(
    "packet", [b"", b"<", b"<a>" * 10_000, b"\xff\xfe<", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&d;</a>']
)
def test_a_broken_packet_says_nothing(packet: bytes) -> None:
    assert parse_xmp(packet) == XmpProperties()


def test_an_entity_that_grows_is_refused() -> None:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    assert parse_xmp(f'<!DOCTYPE a [<!ENTITY e0 "xxxxxxxxxx">{levels}]><a>&e11;</a>'.encode()) == XmpProperties()


def test_what_cannot_be_kept_is_taken_out() -> None:
    assert clean_text("a\0b\x07c\ud800") == "abc"
    assert clean_text(b"Lens\0\0\0") == "Lens"
    assert clean_text(" \0 ") is None
    assert clean_text(7) is None


@pytest.mark.parametrize(
    ("offset", "name"),
    [
        (timedelta(0), "UTC"),
        (timedelta(hours=2), "UTC+2"),
        (-timedelta(hours=3, minutes=30), "UTC-3:30"),
        (timedelta(hours=5, minutes=45), "UTC+5:45"),
    ],
)
def test_zones(offset: timedelta, name: str) -> None:
    assert format_zone(datetime(2024, 1, 1, tzinfo=timezone(offset))) == name


def test_motion_items() -> None:
    packet = b"""<a xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><i Item:Semantic="Primary" Item:Padding="8"/>
    <i Item:Semantic="MotionPhoto" Item:Length="1234"/></a>"""
    assert parse_xmp(packet).items == (ContainerItem("Primary", 0, 8), ContainerItem("MotionPhoto", 1234, 0))
