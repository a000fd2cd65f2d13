"""Metadata of the photos of `tests/inputs`, and of others of their kind, through a running service: dates, zones, camera, position, size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from tests.api.consistency import assert_consistent
from tests.media.photo_files import encode_image, encode_jpeg, make_quarters
from tests.media.xmp_files import make_xmp
from tests.real.processing import wait_until_idle
from tests.real.service import WORKING, Service
from tests.real.stacks import Stacks
from tests.real.uploads import upload

INPUTS = Path(__file__).parents[1] / "inputs"
MOMENT = "2020-01-02T03:04:05.000Z"
EARLIER = "2019-01-02T03:04:05.000Z"

CAMERA = {"make": "M", "model": "N"}
GPS_ONLY = {"latitude": 28.1844783, "longitude": -14.16067}
EXPECTED: dict[str, dict[str, Any]] = {
    "B-offsettime-of-editor.jpg": {"dateTimeOriginal": "2024-07-21T23:39:24.000Z", "timeZone": None},
    "C-offsettime-of-editor.jpg": {"dateTimeOriginal": "2024-07-21T21:39:24.000Z", "timeZone": "UTC+2"},
    "dateonly.jpg": CAMERA | {"dateTimeOriginal": "2025-01-14T00:00:00.000Z", "timeZone": None},
    "zone0900.jpg": CAMERA | {"dateTimeOriginal": "2025-01-14T09:31:30.000Z", "timeZone": "UTC+9"},
    "nopad.jpg": CAMERA | {"dateTimeOriginal": "2025-01-14T08:31:30.000Z", "timeZone": None},
    "0001-plus1.jpg": CAMERA | {"dateTimeOriginal": MOMENT, "timeZone": None},
    "b-embedded-gps.jpg": GPS_ONLY | {"dateTimeOriginal": "2026-05-15T05:19:37.000Z", "timeZone": "UTC+8"},
    "date-only-xmp.jpg": {
        "dateTimeOriginal": "2026-05-15T05:19:37.000Z", "timeZone": "UTC+8", "make": "XM", "model": "XN",
    },
    "iso-0-200.jpg": {"iso": 200},
    "orient-ascii.jpg": {"orientation": "6", "exifImageWidth": 640, "exifImageHeight": 480, "width": 480, "height": 640},
    "no-eoi-with-exif.jpg": {
        "dateTimeOriginal": "2024-05-06T05:08:09.000Z", "timeZone": "UTC+2", "make": "Maker", "exifImageWidth": 160, "exifImageHeight": 120,
    },
    "no-eoi.jpg": {"dateTimeOriginal": MOMENT, "exifImageWidth": 160, "exifImageHeight": 120},
    "heic-named.jpg": {"dateTimeOriginal": MOMENT, "orientation": "1", "exifImageWidth": 64, "exifImageHeight": 48},
}  # fmt: skip
"""By input: fields of `exifInfo`."""


def make_exif(orientation: int | None = None, make: str = "Camera Works") -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Make] = make
    if orientation is not None:
        exif[Base.Orientation] = orientation
    exif.get_ifd(IFD.Exif).update(
        {Base.DateTimeOriginal: "2024:07:21 23:39:24", Base.ExifImageWidth: 9999, Base.ExifImageHeight: 9999}
    )
    return exif


def make_broken(data: bytes) -> bytes:
    """The metadata of a JPEG, and nothing of its picture."""
    return data[: data.index(b"\xff\xda")]


UNCOMPRESSED = b"\x03\x01\x03\0\1\0\0\0\1\0"
UNKNOWN_COMPRESSION = UNCOMPRESSED[:-2] + b"\x77\x77"
"""TIFF's tag 259."""

PICTURE = make_quarters(96, 64)
POSITION = {
    "exif:GPSLatitude": "52,31.117N",
    "exif:GPSLongitude": "13,24.617E",
    "exif:DateTimeOriginal": "2024-07-21T23:39:24",
}
SIBLINGS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "turned.jpg": (
        encode_jpeg(PICTURE, exif=make_exif(6)),
        {"orientation": "6", "exifImageWidth": 96, "exifImageHeight": 64, "width": 64, "height": 96},
    ),
    "turned.avif": (
        encode_image(PICTURE, "AVIF", exif=make_exif(8)),
        {"orientation": "8", "exifImageWidth": 96, "exifImageHeight": 64, "width": 64, "height": 96},
    ),
    "turned.webp": (
        encode_image(PICTURE, "WEBP", exif=make_exif(5)),
        {"orientation": "5", "exifImageWidth": 96, "exifImageHeight": 64, "width": 64, "height": 96},
    ),
    "zone-of-the-place.jpg": (
        encode_jpeg(PICTURE, xmp=make_xmp(POSITION)),
        {"dateTimeOriginal": "2024-07-21T21:39:24.000Z", "timeZone": "Europe/Berlin", "localDateTime": "2024-07-21T23:39:24.000Z"},
    ),
    "before-time-zones.jpg": (  # Berlin's local mean time has an offset of 53 minutes and 28 seconds
        encode_jpeg(PICTURE, xmp=make_xmp(POSITION | {"exif:DateTimeOriginal": "1888-03-09T12:00:00"})),
        {"dateTimeOriginal": "1888-03-09T11:06:32.000Z", "timeZone": "Europe/Berlin", "localDateTime": "1888-03-09T12:00:00.000Z"},
    ),
    "rated.jpg": (
        encode_jpeg(PICTURE, xmp=make_xmp({"xmp:Rating": "4"}, description="hello words")),
        {"rating": 4, "description": "hello words", "dateTimeOriginal": MOMENT},
    ),
    "latitude-alone.jpg": (
        encode_jpeg(PICTURE, xmp=make_xmp({"exif:GPSLatitude": "52,31.117N"})),
        {"latitude": None, "longitude": None},
    ),
    "broken.jpg": (
        make_broken(encode_jpeg(PICTURE, exif=make_exif(6, "Broken"))),
        {"make": "Broken", "dateTimeOriginal": "2024-07-21T23:39:24.000Z", "exifImageWidth": 96, "width": 64, "height": 96},
    ),
    "undecodable.nef": (
        encode_image(PICTURE, "TIFF", exif=make_exif(make="Unknown Raw").tobytes()).replace(UNCOMPRESSED, UNKNOWN_COMPRESSION),
        {"make": "Unknown Raw", "dateTimeOriginal": "2024-07-21T23:39:24.000Z"},
    ),
}  # fmt: skip
WITHOUT_PICTURE = ("broken.jpg", "undecodable.nef")


class ProcessedPhotos:
    def __init__(self, client: httpx.Client, asset_ids: dict[str, str]) -> None:
        self._client = client
        self._asset_ids = asset_ids

    def asset(self, name: str) -> dict[str, Any]:
        return self._client.get(f"/api/assets/{self._asset_ids[name]}").json()


@pytest.fixture(scope="module")
def photos(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessedPhotos]:
    """What is tested is the same on every storage and database: one stack suffices."""
    place = stacks.create("local", tmp_path_factory.mktemp("metadata-inputs"))
    files = {name: (INPUTS / name).read_bytes() for name in EXPECTED} | {
        name: data for name, (data, _) in SIBLINGS.items()
    }
    with Service(place, program=WORKING) as service, service.client(service.people.add()) as client:
        asset_ids: dict[str, str] = {}
        for name, data in files.items():
            answer = upload(client, data, name, fields={"fileCreatedAt": MOMENT, "fileModifiedAt": MOMENT})
            assert answer.status_code == 201, f"{name}: {answer.text}"
            asset_ids[name] = answer.json()["id"]
        fields = {"fileCreatedAt": MOMENT, "fileModifiedAt": EARLIER}
        asset_ids["modified-earlier.png"] = upload(
            client, encode_image(PICTURE, "PNG"), "modified-earlier.png", fields=fields
        ).json()["id"]
        wait_until_idle(service, service.people.add(is_admin=True).key)
        yield ProcessedPhotos(client, asset_ids)
        assert_consistent(place)


@pytest.mark.parametrize("name", [*EXPECTED, *SIBLINGS])
def test_metadata(photos: ProcessedPhotos, name: str) -> None:
    asset = photos.asset(name)
    told = {**asset["exifInfo"], **{field: asset[field] for field in ("width", "height", "localDateTime")}}
    expected = EXPECTED[name] if name in EXPECTED else SIBLINGS[name][1]
    for field, value in expected.items():
        if field in ("latitude", "longitude") and value is not None:
            value = pytest.approx(value, abs=1e-6)
        assert told.get(field) == value, field
    assert asset["fileCreatedAt"] == told["dateTimeOriginal"]
    assert ("processingError" in asset) == (name in WITHOUT_PICTURE)
    assert asset["hasMetadata"]


def test_a_date_without_a_zone_is_local(photos: ProcessedPhotos) -> None:
    asset = photos.asset("B-offsettime-of-editor.jpg")
    assert asset["localDateTime"] == asset["exifInfo"]["dateTimeOriginal"] == "2024-07-21T23:39:24.000Z"


def test_without_any_date_the_earlier_of_creation_and_modification_counts(photos: ProcessedPhotos) -> None:
    asset = photos.asset("modified-earlier.png")
    dates = (asset["exifInfo"]["dateTimeOriginal"], asset["fileCreatedAt"], asset["localDateTime"])
    assert dates == (EARLIER,) * 3
