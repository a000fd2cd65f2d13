"""The mapping from tags to fields: precedence, unusual values, sidecars, positions and zones. No file is read."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.media.metadata.maker_notes import read_content_identifier
from app.media.metadata.media_metadata import MediaMetadata
from app.media.metadata.photo_metadata import build_metadata, complete_metadata
from app.media.metadata.positions import find_zone, localize, parse_number, parse_position
from app.media.metadata.tag_reading import TagSet, decode_text
from tests.media.xmp_files import make_xmp

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DATE, OFFSET = "Exif.Photo.DateTimeOriginal", "Exif.Photo.OffsetTimeOriginal"
BERLIN = {
    "Exif.GPSInfo.GPSLatitude": "52/1 31/1 7/1",
    "Exif.GPSInfo.GPSLatitudeRef": "N",
    "Exif.GPSInfo.GPSLongitude": "13/1 24/1 37/1",
    "Exif.GPSInfo.GPSLongitudeRef": "E",
}


def built(file: dict[str, str], sidecar: dict[str, str] | None = None) -> MediaMetadata:
    return build_metadata(TagSet(file), TagSet(sidecar or {}), NOW)


@pytest.mark.parametrize(
    ("tags", "taken", "zone"),
    [
        ({DATE: "2024:07:21 23:39:24", "Exif.Photo.SubSecTimeOriginal": "5", OFFSET: "+02:00"}, "2024-07-21T23:39:24.500000+02:00", "UTC+2"),
        ({"Exif.Photo.DateTimeDigitized": "2024:07:21 23:39:24", "Exif.Photo.OffsetTimeDigitized": "Z"}, "2024-07-21T23:39:24+00:00", "UTC"),
        # An offset belongs to its own date, unless both are the same moment.
        ({DATE: "2024:07:21 23:39:24", "Exif.Photo.DateTimeDigitized": "2024:07:22 01:00:00", "Exif.Photo.OffsetTimeDigitized": "+05:00"}, "2024-07-21T23:39:24", None),
        ({DATE: "2024:07:21 23:39:24", "Exif.Image.DateTime": "2024:12:22 06:39:25", "Exif.Photo.OffsetTime": "+08:00"}, "2024-07-21T23:39:24", None),
        ({DATE: "2024:07:21 23:39:24", "Exif.Image.DateTime": "2024:07:21 23:39:24", "Exif.Photo.OffsetTime": "+08:00"}, "2024-07-21T23:39:24+08:00", "UTC+8"),
        # Placeholders and dates of the future are skipped.
        ({DATE: "0000:00:00 00:00:00", "Exif.Photo.DateTimeDigitized": "2024:07:21 23:39:24"}, "2024-07-21T23:39:24", None),
        ({DATE: "2044:07:21 23:39:24", "Xmp.exif.DateTimeOriginal": "2024-07-21T23:39:24+02:00"}, "2024-07-21T23:39:24+02:00", "UTC+2"),
        # EXIF, IPTC, XMP.
        ({"Iptc.Application2.DateCreated": "2024-07-21", "Iptc.Application2.TimeCreated": "23:39:24+02:00"}, "2024-07-21T23:39:24+02:00", "UTC+2"),
        ({"Iptc.Application2.DateCreated": "2024-07-21", "Iptc.Application2.TimeCreated": "23:39:24+00:00"}, "2024-07-21T23:39:24", None),
        ({"Iptc.Application2.DateCreated": "2024-07-21"}, "2024-07-21T00:00:00", None),
        ({"Iptc.Application2.DateCreated": "2024-07-21", "Xmp.xmp.CreateDate": "2023-01-01T00:00:00"}, "2023-01-01T00:00:00", None),
        ({"Xmp.photoshop.DateCreated": "2024-07-21"}, "2024-07-21T00:00:00", None),
        ({"Xmp.GPano.SourceImageCreateTime": "2024-07-21T23:39:24Z"}, "2024-07-21T23:39:24+00:00", "UTC"),
        # A date of modification is none of taking.
        ({"Exif.Image.DateTime": "2024:07:21 23:39:24"}, None, None),
        ({"Xmp.xmp.ModifyDate": "2024-07-21T23:39:24"}, None, None),
        # The clock of GPS is a moment without a zone; the position tells that.
        ({"Exif.GPSInfo.GPSDateStamp": "2024:07:21", "Exif.GPSInfo.GPSTimeStamp": "21/1 39/1 24/1"}, "2024-07-21T21:39:24+00:00", None),
        ({"Exif.GPSInfo.GPSDateStamp": "2024:07:21"}, None, None),
        ({"Exif.GPSInfo.GPSDateStamp": "2024:07:21", "Exif.GPSInfo.GPSTimeStamp": "21/1 39/1 24/1"} | BERLIN, "2024-07-21T23:39:24+02:00", "Europe/Berlin"),
        ({DATE: "2024:07:21 23:39:24"} | BERLIN, "2024-07-21T23:39:24+02:00", "Europe/Berlin"),
        ({DATE: "2024:12:21 23:39:24"} | BERLIN, "2024-12-21T23:39:24+01:00", "Europe/Berlin"),
        ({DATE: "2024:07:21 23:39:24", OFFSET: "-05:00"} | BERLIN, "2024-07-21T23:39:24-05:00", "UTC-5"),
        ({DATE: "0001:01:01 00:00:00", OFFSET: "+01:00"} | BERLIN, None, None),
        ({DATE: "0001:01:03 00:00:00"} | BERLIN, "0001-01-03T00:00:00+00:53:28", "Europe/Berlin"),
    ],
)  # fmt: skip
def test_dates(tags: dict[str, str], taken: str | None, zone: str | None) -> None:
    metadata = built(tags)
    found = metadata.date_time_original
    assert (found and found.isoformat(), metadata.time_zone) == (taken, zone)


@pytest.mark.parametrize(
    ("file", "sidecar", "taken", "zone"),
    [
        ({DATE: "2024:07:21 23:39:24", OFFSET: "+02:00"}, {"Xmp.exif.DateTimeOriginal": "2023-01-01T10:00:00"}, "2023-01-01T10:00:00", None),
        ({DATE: "2024:07:21 23:39:24", OFFSET: "+02:00"}, {"Xmp.exif.DateTimeOriginal": "2024-07-21T23:39:24"}, "2024-07-21T23:39:24+02:00", "UTC+2"),
        ({DATE: "2024:07:21 23:39:24"}, {"Xmp.exif.GPSLatitude": "52,31.117N", "Xmp.exif.GPSLongitude": "13,24.617E"}, "2024-07-21T23:39:24+02:00", "Europe/Berlin"),
        ({DATE: "2024:07:21 23:39:24"}, {"Xmp.exif.DateTimeOriginal": "rubbish"}, "2024-07-21T23:39:24", None),
    ],
)  # fmt: skip
def test_the_sidecar_wins(file: dict[str, str], sidecar: dict[str, str], taken: str, zone: str | None) -> None:
    metadata = built(file, sidecar)
    assert metadata.date_time_original is not None
    assert (metadata.date_time_original.isoformat(), metadata.time_zone) == (taken, zone)


def test_the_sidecar_wins_field_by_field_but_says_nothing_about_the_picture() -> None:
    file = {
        "Exif.Image.Make": "M", "Exif.Image.ImageDescription": "old", "Exif.Image.Rating": "2", "Exif.Image.Orientation": "6",
    } | BERLIN  # fmt: skip
    metadata = built(file, {"Xmp.dc.description": "new", "Xmp.xmp.Rating": "4", "Xmp.tiff.Orientation": "3"})
    assert (metadata.make, metadata.description, metadata.rating, metadata.orientation) == ("M", "new", 4, "6")
    assert (metadata.latitude, metadata.longitude) == (52.5186111, 13.4102778)


@pytest.mark.parametrize(
    ("tags", "field", "expected"),
    [
        ({"Exif.Photo.ISOSpeedRatings": "0 200"}, "iso", 200),
        ({"Exif.Photo.ISOSpeedRatings": "0"}, "iso", None),
        ({"Exif.Photo.ISOSpeedRatings": "65535", "Exif.Photo.RecommendedExposureIndex": "102400"}, "iso", 102400),
        ({"Exif.Photo.ISOSpeedRatings": "65535"}, "iso", 65535),
        ({"Xmp.exif.ISOSpeedRatings": "0, 400"}, "iso", 400),
        ({"Exif.PanasonicRaw.ISOSpeed": "160"}, "iso", 160),
        ({"Exif.Photo.ExposureTime": "10/2500"}, "exposure_time", "1/250"),
        ({"Exif.Photo.ExposureTime": "1/4"}, "exposure_time", "1/4"),
        ({"Exif.Photo.ExposureTime": "3/10"}, "exposure_time", "0.3"),
        ({"Exif.Photo.ExposureTime": "30/1"}, "exposure_time", "30"),
        ({"Exif.Photo.ExposureTime": "1/0"}, "exposure_time", None),
        ({"Exif.Photo.FNumber": "0/0", "Xmp.exif.FNumber": "18/10"}, "f_number", 1.8),
        ({"Exif.Photo.FocalLength": "-50/1"}, "focal_length", None),
        ({"Exif.Image.Rating": "99", "Xmp.xmp.Rating": "-1"}, "rating", -1),
        ({"Exif.Image.Rating": "99"}, "rating", None),
        ({"Exif.Image.Rating": "3", "Xmp.xmp.Rating": "5.0"}, "rating", 5),
        ({"Exif.Image.Orientation": "9"}, "orientation", None),
        ({"Exif.Image.Orientation": "", "Xmp.tiff.Orientation": "6"}, "orientation", None),
        ({"Xmp.tiff.Orientation": "6"}, "orientation", "6"),
        ({"Exif.Photo.LensModel": "----"}, "lens_model", None),
        ({"Exif.Photo.LensModel": "0"}, "lens_model", None),
        ({"Exif.Photo.LensModel": "Plain", "Xmp.aux.Lens": "Better"}, "lens_model", "Better"),
        ({"Exif.Photo.LensModel": "Plain", "Exif.CanonCs.LensType": "(61182)"}, "lens_model", "Plain"),
        ({"Exif.Photo.LensModel": "Plain", "Exif.Sony2.LensID": "65535"}, "lens_model", "Plain"),
        ({"Exif.Photo.LensModel": "Plain", "Exif.CanonCs.LensType": "Canon EF 50mm f/1.8"}, "lens_model", "Canon EF 50mm f/1.8"),
        ({"Xmp.GPano.ProjectionType": "equirectangular"}, "projection_type", "EQUIRECTANGULAR"),
        ({"Exif.Image.ImageDescription": "a", "Xmp.dc.description": "b"}, "description", "a"),
        ({"Exif.Image.ImageDescription": "", "Iptc.Application2.Caption": "c", "Xmp.dc.description": "b"}, "description", "c"),
        ({"Exif.GPSInfo.GPSLatitude": "52/1 31/1 7/1", "Exif.GPSInfo.GPSLatitudeRef": "N"}, "latitude", None),
        ({"Exif.Photo.PixelXDimension": "6000"}, "exif_image_width", 6000),
    ],
)  # fmt: skip
def test_fields(tags: dict[str, str], field: str, expected: object) -> None:
    assert getattr(built(tags), field) == expected


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (("52/1 31/1 7/1", "N", "13/1 24/1 37/1", "E"), (52.5186111, 13.4102778)),
        (("33/1 51/1 2484/100", "S", "151/1 12/1 5508/100", "W"), (-33.8569, -151.2153)),
        (("28,11.0687N", None, "14,9.6402W", None), (28.1844783, -14.16067)),
        (("28,11,4.12N", None, "14,9,38.41W", None), (28.1844778, -14.1606694)),
        (("28.5", None, "-14.25", None), (28.5, -14.25)),
        (("0/1 0/1 0/1", "N", "0/1 0/1 0/1", "E"), None),
        (("95/1 0/1 0/1", "N", "13/1 0/1 0/1", "E"), None),
        (("52/1 31/1 7/1", "N", "181/1 0/1 0/1", "E"), None),
        (("52/1 31/1 7/1", "N", None, None), None),
        (("0/0 0/0 0/0", "N", "0/0 0/0 0/0", "E"), None),
        (("nan", "N", "inf", "E"), None),
        (("1 2 3 4", "N", "13", "E"), None),
    ],
)
def test_positions(position: tuple[str | None, ...], expected: tuple[float, float] | None) -> None:
    assert parse_position(*position) == expected


def test_zones_of_positions() -> None:
    assert find_zone(28.18, -14.16) == "Atlantic/Canary"
    assert find_zone(0, -30) == "Etc/GMT+2"
    assert localize(datetime.max, "Etc/GMT+2") is not None  # noqa: DTZ901
    assert localize(datetime.max.replace(tzinfo=UTC), "Pacific/Auckland") is None
    assert localize(datetime.min.replace(tzinfo=UTC), "America/New_York") is None
    assert localize(datetime(2024, 1, 1, tzinfo=UTC), "Nowhere/At_all") is None
    assert parse_number("9" * 400) is None


def test_texts_are_cleaned() -> None:
    assert decode_text("a\0b\x07c") == "abc"
    assert decode_text("Caf\udce9") == "Café"
    assert decode_text("Straße") == "Straße"
    assert decode_text(" \0 ") is None


def apple_note(identifier: bytes, *, entries: int = 1, offset: int = 28) -> bytes:
    entry = struct.pack(">HHII", 0x0011, 2, len(identifier), offset)
    return b"Apple iOS\0\0\1MM" + struct.pack(">H", entries) + entry + identifier


def test_apples_content_identifier() -> None:
    assert read_content_identifier(apple_note(b"1B2C-3D\0")) == "1B2C-3D"
    for note in (b"", b"Apple iOS\0\0\1MM", b"Nikon", apple_note(b"x" * 300), apple_note(b"A\0", offset=2**32 - 1)):
        assert read_content_identifier(note) is None
    assert read_content_identifier(apple_note(b"1B2C-3D\0", entries=65535)) == "1B2C-3D"


def test_a_sidecar_of_a_video(tmp_path: Path) -> None:
    """A moment in UTC, as QuickTime has it, gets the zone of the sidecar's position."""
    sidecar = tmp_path / "clip.xmp"
    sidecar.write_bytes(
        make_xmp({"exif:GPSLatitude": "52,31.117N", "exif:GPSLongitude": "13,24.617E", "xmp:Rating": "4"})
    )
    own = MediaMetadata(date_time_original=datetime(2024, 7, 21, 21, 39, 24, tzinfo=UTC), fps=25, description="kept")
    read = MediaMetadata.from_json(
        complete_metadata("unused", str(sidecar), own.to_json(), has_packet=False)["metadata"]
    )
    assert read.date_time_original is not None
    assert (read.date_time_original.utcoffset(), read.time_zone) == (timedelta(hours=2), "Europe/Berlin")
    assert read.date_time_original == own.date_time_original
    assert (read.rating, read.fps, read.description) == (4, 25, "kept")
    zoned = replace(own, time_zone="UTC")
    again = MediaMetadata.from_json(
        complete_metadata("unused", str(sidecar), zoned.to_json(), has_packet=False)["metadata"]
    )
    assert (again.date_time_original, again.time_zone) == (own.date_time_original, "UTC")
