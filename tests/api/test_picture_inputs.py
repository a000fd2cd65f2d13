"""Photos of `tests/inputs` through a running service: picture, type and motion video of each are as its README says."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageStat

from tests.api.consistency import assert_consistent
from tests.media.photo_files import encode_jpeg
from tests.real.archive_programs import program
from tests.real.processing import fetch_image, wait_until_idle
from tests.real.service import WORKING, Service
from tests.real.stacks import Stacks
from tests.real.uploads import upload

INPUTS = Path(__file__).parents[1] / "inputs"
MOTION_PHOTOS = ("headline.jpg", "free-first.jpg", "trailing.jpg", "heic-appended.heic")
LARGER_SECOND, ORIENTATION_AS_TEXT = "reduced-first.tif", "orient-ascii.jpg"
WITHOUT_END = ("no-eoi.jpg", "no-eoi-with-exif.jpg")
MOMENT = "2020-01-02T03:04:05Z"


class ProcessedInputs:
    """The assets of the inputs, all of which are uploaded and processed at once."""

    def __init__(self, client: httpx.Client, asset_ids: dict[str, str]) -> None:
        self.client = client
        self.asset_ids = asset_ids

    def asset(self, name: str) -> dict[str, Any]:
        return self.client.get(f"/api/assets/{self.asset_ids[name]}").json()


@pytest.fixture(scope="module")
def inputs(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessedInputs]:
    """What is tested is the same on every storage and database: one stack suffices."""
    place = stacks.create("local", tmp_path_factory.mktemp("inputs"))
    with Service(place, program=WORKING) as service, service.client(service.people.add()) as client:
        asset_ids = {}
        for name in (*MOTION_PHOTOS, *WITHOUT_END, LARGER_SECOND, ORIENTATION_AS_TEXT):
            answer = upload(
                client,
                (INPUTS / name).read_bytes(),
                name,
                fields={"fileCreatedAt": MOMENT, "fileModifiedAt": MOMENT},
            )
            assert answer.status_code == 201, f"{name}: {answer.text}"
            asset_ids[name] = answer.json()["id"]
        queues = wait_until_idle(service, service.people.add(is_admin=True).key)
        assert queues["thumbnailGeneration"]["failures"] == []
        yield ProcessedInputs(client, asset_ids)
        assert_consistent(place)


@pytest.mark.parametrize("name", MOTION_PHOTOS)
def test_the_clip_of_a_motion_photo_is_played(inputs: ProcessedInputs, name: str, tmp_path: Path) -> None:
    video_id = inputs.asset(name)["livePhotoVideoId"]
    assert video_id is not None
    original = inputs.client.get(f"/api/assets/{video_id}/original").content
    assert (INPUTS / name).read_bytes().find(original) > 0
    played = tmp_path / "played.mp4"
    played.write_bytes(inputs.client.get(f"/api/assets/{video_id}/video/playback").content)
    probe = [program("ffprobe"), "-v", "error", "-of", "json", "-show_streams", "-show_format", str(played)]
    found = json.loads(subprocess.run(probe, check=True, capture_output=True, timeout=30).stdout)
    assert {stream["codec_type"] for stream in found["streams"]} == {"video", "audio"}
    for stream in found["streams"]:
        assert float(stream["duration"]) == pytest.approx(1, abs=0.05), stream["codec_type"]


@pytest.mark.parametrize("name", WITHOUT_END)
def test_a_jpeg_without_its_last_bytes_is_shown(inputs: ProcessedInputs, name: str) -> None:
    asset = inputs.asset(name)
    assert (asset["width"], asset["height"]) == (160, 120)
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
