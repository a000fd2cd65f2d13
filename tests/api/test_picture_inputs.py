"""Photos of `tests/inputs` through a running service: picture, type and motion video of each are as its README says."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageStat

from tests.api.consistency import assert_consistent
from tests.media.photo_files import encode_image, encode_jpeg, make_quarters
from tests.real.archive_programs import video_program
from tests.real.processing import fetch_image, wait_until_idle
from tests.real.service import WORKING, Service
from tests.real.stacks import Stacks
from tests.real.uploads import upload
from tests.real.waiting import eventually

INPUTS = Path(__file__).parents[1] / "inputs"
MOTION_PHOTOS = ("headline.jpg", "free-first.jpg", "trailing.jpg", "heic-appended.heic")
LARGER_SECOND, ORIENTATION_AS_TEXT = "reduced-first.tif", "orient-ascii.jpg"
WITHOUT_END = ("no-eoi.jpg", "no-eoi-with-exif.jpg")
MOMENT = "2020-01-02T03:04:05Z"


def _misnamed() -> dict[str, tuple[bytes, str]]:
    """Content and its MIME type by name."""
    return {
        "heic-named.jpg": ((INPUTS / "heic-named.jpg").read_bytes(), "image/heic"),
        "jpeg-named.heic": (encode_jpeg(make_quarters(64, 48)), "image/jpeg"),
        "png-named.JPG": (encode_image(make_quarters(66, 48), "PNG"), "image/png"),
        "tiff-named.png": (encode_image(make_quarters(68, 48), "TIFF"), "image/tiff"),
    }


MISNAMED = _misnamed()


@dataclass(frozen=True, slots=True)
class ProcessedInputs:
    """The assets of the inputs, all of which are uploaded and processed at once, and of those of a library that are named wrongly."""

    client: httpx.Client
    uploaded: dict[str, str]
    scanned: dict[str, str]

    def asset(self, name: str) -> dict[str, Any]:
        return self.client.get(f"/api/assets/{self.uploaded[name]}").json()


@pytest.fixture(scope="module")
def inputs(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessedInputs]:
    """What is tested is the same on every storage and database: one stack suffices."""
    place = stacks.create("local", tmp_path_factory.mktemp("inputs"))
    names = (*MOTION_PHOTOS, *WITHOUT_END, LARGER_SECOND, ORIENTATION_AS_TEXT)
    files = {name: (INPUTS / name).read_bytes() for name in names} | {
        name: data for name, (data, _) in MISNAMED.items()
    }
    with Service(place, program=WORKING) as service:
        admin = service.people.add(is_admin=True)
        with service.client(admin) as client:
            scanned = _scan_misnamed(client, str(admin.id), tmp_path_factory.mktemp("library"))
            uploaded = {name: _upload(client, data, name) for name, data in files.items()}
            queues = wait_until_idle(service, admin.key)
            assert queues["thumbnailGeneration"]["failures"] == []
            yield ProcessedInputs(client, uploaded, scanned)
        assert_consistent(place)


def _upload(client: httpx.Client, data: bytes, name: str) -> str:
    answer = upload(client, data, name, fields={"fileCreatedAt": MOMENT, "fileModifiedAt": MOMENT})
    assert answer.status_code == 201, f"{name}: {answer.text}"
    return answer.json()["id"]


def _scan_misnamed(client: httpx.Client, owner_id: str, folder: Path) -> dict[str, str]:
    for name, (data, _) in MISNAMED.items():
        (folder / name).write_bytes(data)
    made = client.post("/api/libraries", json={"ownerId": owner_id, "importPaths": [str(folder)]})
    library = made.json()["id"]
    assert client.post(f"/api/libraries/{library}/scan").status_code == 204
    query = {"library": library, "limit": 100}
    eventually(
        lambda: len(client.get("/api/assets", params=query).json()["items"]) == len(MISNAMED), "the files are found"
    )
    return {asset["originalFileName"]: asset["id"] for asset in client.get("/api/assets", params=query).json()["items"]}


@pytest.mark.parametrize("name", MOTION_PHOTOS)
def test_the_clip_of_a_motion_photo_is_played(inputs: ProcessedInputs, name: str, tmp_path: Path) -> None:
    video_id = inputs.asset(name)["livePhotoVideoId"]
    assert video_id is not None
    original = inputs.client.get(f"/api/assets/{video_id}/original").content
    assert (INPUTS / name).read_bytes().find(original) > 0
    played = tmp_path / "played.mp4"
    played.write_bytes(inputs.client.get(f"/api/assets/{video_id}/video/playback").content)
    probe = [video_program("ffprobe"), "-v", "error", "-of", "json", "-show_streams", "-show_format", str(played)]
    found = json.loads(subprocess.run(probe, check=True, capture_output=True, timeout=30).stdout)
    assert {stream["codec_type"] for stream in found["streams"]} == {"video", "audio"}
    for stream in found["streams"]:
        assert float(stream["duration"]) == pytest.approx(1, abs=0.05), stream["codec_type"]


@pytest.mark.parametrize("name", WITHOUT_END)
def test_a_jpeg_without_its_last_bytes_is_shown(inputs: ProcessedInputs, name: str) -> None:
    asset = inputs.asset(name)
    assert (asset["width"], asset["height"]) == (160, 120)
    assert asset["originalDamage"] == "its last bytes are missing"
    assert "originalDamage" not in inputs.asset(MOTION_PHOTOS[0])
    preview = fetch_image(inputs.client, asset["id"], "preview")
    with Image.open(io.BytesIO((INPUTS / name).read_bytes() + b"\xff\xd9")) as whole:
        encoded = encode_jpeg(whole, quality=80)
    with Image.open(io.BytesIO(encoded)) as expected:
        assert max(ImageStat.Stat(ImageChops.difference(preview, expected)).mean) < 0.5


def test_the_largest_page_of_a_tiff_is_shown(inputs: ProcessedInputs) -> None:
    asset = inputs.asset(LARGER_SECOND)
    assert (asset["width"], asset["height"]) == (360, 240)
    for size in ("preview", "thumbnail", "fullsize"):
        image = fetch_image(inputs.client, asset["id"], size)
        assert image.width == pytest.approx(image.height * 1.5, abs=1)
        red, green, blue = ImageStat.Stat(image.convert("RGB")).mean
        assert red > 150 > 60 > max(green, blue), size


def test_the_orientation_that_is_told_is_the_one_that_is_shown(inputs: ProcessedInputs) -> None:
    asset = inputs.asset(ORIENTATION_AS_TEXT)
    is_turned = int(asset["exifInfo"]["orientation"] or 1) >= 5
    shown = fetch_image(inputs.client, asset["id"], "preview").size
    assert shown == ((480, 640) if is_turned else (640, 480))
    assert (asset["width"], asset["height"]) == shown


@pytest.mark.parametrize("place", ["uploaded", "scanned"])
@pytest.mark.parametrize("name", MISNAMED)
def test_a_photo_is_sent_with_the_type_of_its_content(inputs: ProcessedInputs, name: str, place: str) -> None:
    data, mime_type = MISNAMED[name]
    asset_id = getattr(inputs, place)[name]
    address = f"/api/assets/{asset_id}"

    def has_type() -> bool:  # what a service remembers of a library's file is five seconds old at most
        return inputs.client.get(f"{address}/original").headers["content-type"] == mime_type

    eventually(has_type, "the original is sent with its type")
    original = inputs.client.get(f"{address}/original")
    assert original.content == data
    assert original.headers["x-content-type-options"] == "nosniff"
    asset = inputs.client.get(address).json()
    assert (asset["originalFileName"], asset["originalMimeType"], asset["type"]) == (name, mime_type, "IMAGE")
    shown = fetch_image(inputs.client, asset_id, "fullsize")
    assert shown.format == ("PNG" if mime_type == "image/png" else "JPEG")
    assert shown.size == (asset["width"], asset["height"])


def test_a_page_that_is_named_as_a_photo_is_not_sent_as_a_page(inputs: ProcessedInputs) -> None:
    """Nor is a photo that contains one."""
    page = b"<html><script>alert(1)</script></html>"
    polyglot = encode_jpeg(make_quarters(70, 48), comment=page)
    for name, data in (("page.jpg", page), ("page.svg", page), ("photo.svg", polyglot)):
        asset_id = _upload(inputs.client, data + name.encode(), name)
        headers = inputs.client.get(f"/api/assets/{asset_id}/original").headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-type"].startswith("image/")
        if headers["content-type"] == "image/svg+xml":
            assert headers["content-disposition"].startswith("attachment")
