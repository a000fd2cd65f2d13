"""Processing of real photos and videos by a running service, checked through the API.

Outside the long campaigns on S3 and PostgreSQL only: `tests/media/test_pipeline.py` stages originals and swaps derivatives on both stacks, and decoders
do not know where a file came from.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from tests.api.consistency import assert_consistent
from tests.media.photo_files import FORMATS, ExpectedCorners, assert_corners, encode_jpeg, make_quarters
from tests.media.video_files import H264, make_video
from tests.real.accounts import Account
from tests.real.archive_programs import program, video_program
from tests.real.processing import WITHIN_SECONDS, fetch_image, wait_until_idle
from tests.real.service import WORKING, Service
from tests.real.stacks import Engine, Stacks
from tests.real.uploads import uploaded
from tests.real.waiting import eventually

ORIENTATION = 0x0112
WEB = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


@pytest.fixture(
    scope="module", params=[pytest.param("local", id="disk", marks=pytest.mark.soak), pytest.param("s3", id="bucket")]
)
def working(
    request: pytest.FixtureRequest, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    engine: Engine = request.param
    with Service(stacks.create(engine, tmp_path_factory.mktemp(f"working-{engine}")), program=WORKING) as running:
        yield running


@pytest.fixture
def admin(working: Service) -> Account:
    return working.people.add(is_admin=True)


@pytest.fixture
def owner(working: Service) -> Iterator[httpx.Client]:
    """A client of a new user; checks the consistency of catalogue and storage afterwards."""
    with working.client(working.people.add()) as client:
        yield client
    assert_consistent(working.stack)


def written(kept: ExpectedCorners, image: Image.Image, folder: Path) -> bytes:
    path = folder / f"photo{kept.extension}"
    kept.write(image, path)
    return path.read_bytes()


def test_a_resumed_queue_goes_on(working: Service, admin: Account, owner: httpx.Client) -> None:
    with working.client(admin) as administrator:
        administrator.put("/api/queues/thumbnailGeneration", json={"isPaused": True})
        photo = uploaded(owner, encode_jpeg(make_quarters()))
        waiting = administrator.get("/api/queues/thumbnailGeneration").json()["statistics"]
        administrator.put("/api/queues/thumbnailGeneration", json={"isPaused": False})

    assert (waiting["paused"], waiting["active"]) == (1, 0)
    wait_until_idle(working, admin.key)
    fetch_image(owner, photo, "preview")


def test_every_format_becomes_the_same_pictures(
    working: Service, admin: Account, owner: httpx.Client, tmp_path: Path
) -> None:
    """No two of the same size, so that none is taken for a duplicate."""
    widths = {kept: 640 + 2 * place for place, kept in enumerate(FORMATS)}
    ids = {
        kept: uploaded(owner, written(kept, make_quarters(width, 480), tmp_path), f"photo{kept.extension}")
        for kept, width in widths.items()
    }
    found = wait_until_idle(working, admin.key)
    assert found["thumbnailGeneration"]["failures"] == []
    for kept, width in widths.items():
        asset = owner.get(f"/api/assets/{ids[kept]}").json()
        assert (asset["width"], asset["height"]) == (width, 480), kept.extension
        assert asset["thumbhash"]
        assert "processingError" not in asset
        preview, thumbnail = (fetch_image(owner, asset["id"], size) for size in ("preview", "thumbnail"))
        assert (preview.format, preview.size) == ("JPEG", (width, 480)), "never enlarged"
        assert thumbnail.format == "WEBP"
        assert thumbnail.height == 250
        assert abs(thumbnail.width - width * 250 / 480) <= 1
        for image in (preview, thumbnail):
            assert_corners(image, within=max(3, kept.within))
        full = owner.get(f"/api/assets/{asset['id']}/thumbnail?size=fullsize")
        if kept.extension in WEB:
            assert (full.status_code, full.headers["location"]) == (302, "original")
        else:
            assert full.status_code == 200, kept.extension
            assert Image.open(io.BytesIO(full.content)).format == "JPEG"


def test_large_photos_are_turned_and_made_smaller(working: Service, admin: Account, owner: httpx.Client) -> None:
    shown = make_quarters(3000, 2000)
    ids: list[str] = []
    for orientation in range(1, 9):
        stored = shown.transpose(_UNDO[orientation]) if orientation in _UNDO else shown
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        ids.append(uploaded(owner, encode_jpeg(stored, exif=exif), f"turned-{orientation}.jpg"))
    wait_until_idle(working, admin.key)
    for asset_id in ids:
        asset = owner.get(f"/api/assets/{asset_id}").json()
        assert (asset["width"], asset["height"]) == (3000, 2000)
        for size, (width, height) in {"preview": (2160, 1440), "thumbnail": (375, 250)}.items():
            image = fetch_image(owner, asset_id, size)
            assert abs(image.width - width) <= 1
            assert abs(image.height - height) <= 1
            assert image.getexif().get(ORIENTATION, 1) == 1
            assert_corners(image)


_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def test_what_the_camera_wrote_is_shown(working: Service, admin: Account, owner: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x010E] = "Ricoh", "GR III", "A pier"
    details = exif.get_ifd(0x8769)
    details[0x829A], details[0x829D] = IFDRational(1, 250), IFDRational(28, 10)
    details[0x8827], details[0x920A] = 400, IFDRational(183, 10)
    details[0x9003], details[0x9011] = "2023:07:01 18:30:00", "+02:00"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "S", (33, 51, 36), "E", (151, 12, 36)
    asset_id = uploaded(owner, encode_jpeg(make_quarters(), exif=exif), "pier.jpg")
    wait_until_idle(working, admin.key)
    asset = owner.get(f"/api/assets/{asset_id}").json()
    info = asset["exifInfo"]
    expected: dict[str, Any] = {
        "make": "Ricoh",
        "model": "GR III",
        "description": "A pier",
        "exposureTime": "1/250",
        "fNumber": 2.8,
        "iso": 400,
        "focalLength": 18.3,
        "dateTimeOriginal": "2023-07-01T16:30:00.000Z",
        "exifImageWidth": 640,
        "exifImageHeight": 480,
    }
    assert {name: info[name] for name in expected} == expected
    assert info["latitude"] == pytest.approx(-33.86, abs=0.001)
    assert info["longitude"] == pytest.approx(151.21, abs=0.001)
    assert asset["fileCreatedAt"] == "2023-07-01T16:30:00.000Z"
    assert asset["localDateTime"] == "2023-07-01T18:30:00.000Z"
    assert asset["hasMetadata"] is True


@pytest.mark.parametrize(
    ("name", "options", "as_it_is"),
    [
        ("plain.mp4", (), True),
        ("container.mkv", (), False),
        ("old.avi", ("-c:v", "mpeg4", "-c:a", "libmp3lame"), False),
        ("chroma.mp4", (*H264[:4], "-pix_fmt", "yuv444p", "-c:a", "aac"), False),
    ],
)
def test_videos_are_made_playable_where_they_are_not(
    working: Service,
    admin: Account,
    owner: httpx.Client,
    tmp_path: Path,
    name: str,
    options: tuple[str, ...],
    as_it_is: bool,
) -> None:
    data = make_video(Path(name).suffix, *options)
    asset_id = uploaded(owner, data, name)
    wait_until_idle(working, admin.key)
    asset = owner.get(f"/api/assets/{asset_id}").json()
    assert (asset["width"], asset["height"]) == (320, 240)
    assert abs(asset["duration"] - 1000) <= 150
    assert "processingError" not in asset
    assert fetch_image(owner, asset_id, "preview").size == (320, 240)
    assert fetch_image(owner, asset_id, "thumbnail").size == (320, 240), "never enlarged"

    played = owner.get(f"/api/assets/{asset_id}/video/playback")

    assert played.status_code == 200
    assert (played.content == data) is as_it_is
    if not as_it_is:
        assert played.headers["content-type"] == "video/mp4"
        assert played.content[4:8] == b"ftyp"
        assert played.content.index(b"moov") < played.content.index(b"mdat"), "played before it is there whole"
        streams = probed(played.content, tmp_path)
        assert (streams["video"]["codec_name"], streams["video"]["pix_fmt"]) == ("h264", "yuv420p")
        assert streams["audio"]["codec_name"] in ("aac", "mp3")
        assert abs(float(streams["video"]["duration"]) - 1) <= 0.15
        part = owner.get(f"/api/assets/{asset_id}/video/playback", headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, played.content[100:200])


def probed(data: bytes, folder: Path) -> dict[str, Any]:
    path = folder / "played.mp4"
    path.write_bytes(data)
    command = [video_program("ffprobe"), "-v", "error", "-show_streams", "-of", "json", str(path)]
    said = subprocess.run(command, check=True, timeout=60, capture_output=True, stdin=subprocess.DEVNULL).stdout
    return {stream["codec_type"]: stream for stream in json.loads(said)["streams"]}


def test_the_poster_of_a_video_has_its_colours(
    working: Service, admin: Account, owner: httpx.Client, tmp_path: Path
) -> None:
    still = tmp_path / "still.png"
    make_quarters().save(still)
    target = tmp_path / "still.mp4"
    colours = ("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709", "-color_primaries", "bt709")
    command = [
        program("ffmpeg"), "-v", "error", "-loop", "1", "-i", str(still), "-t", "1", *colours, "-color_trc", "bt709",
        *H264, "-crf", "10", str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
    asset_id = uploaded(owner, target.read_bytes(), "still.mp4")
    wait_until_idle(working, admin.key)
    for size in ("preview", "thumbnail"):
        assert_corners(fetch_image(owner, asset_id, size))


MOTION = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MicroVideo="1" GCamera:MicroVideoOffset="{length}"/></rdf:RDF></x:xmpmeta>"""


def test_the_video_inside_a_photo_is_played_and_downloaded_with_it(
    working: Service, admin: Account, owner: httpx.Client
) -> None:
    video = make_video(".mp4")
    photo = encode_jpeg(make_quarters(), xmp=MOTION.format(length=len(video)).encode()) + video
    photo_id = uploaded(owner, photo, "motion.jpg")
    wait_until_idle(working, admin.key)
    shown = owner.get(f"/api/assets/{photo_id}").json()
    motion = owner.get(f"/api/assets/{shown['livePhotoVideoId']}").json()
    assert (motion["type"], motion["visibility"]) == ("VIDEO", "hidden")
    assert owner.get(f"/api/assets/{motion['id']}/video/playback").content == video
    assert fetch_image(owner, motion["id"], "thumbnail").size == (320, 240)
    assert [asset["id"] for asset in owner.get("/api/assets").json()["items"]] == [photo_id]
    assert owner.get("/api/users/me").json()["quotaUsageInBytes"] == len(photo), "its bytes are the photo's"
    told = owner.post("/api/download/info", json={"assetIds": [photo_id]}).json()
    assert told["totalSize"] == len(photo) + len(video)
    owner.request("DELETE", "/api/assets", json={"ids": [photo_id], "force": True})
    address = f"/api/assets/{motion['id']}/video/playback"
    eventually(lambda: owner.get(address).status_code == 404, "what is remembered of it is forgotten")


def test_made_again_on_request_without_a_gap(working: Service, admin: Account, owner: httpx.Client) -> None:
    asset_id = uploaded(owner, encode_jpeg(make_quarters(800, 600)), "again.jpg")
    wait_until_idle(working, admin.key)
    before = stored_of(working, asset_id)
    with working.client(admin) as client:
        answer = client.put("/api/jobs/thumbnailGeneration", json={"command": "start", "force": True})
        assert answer.status_code == 200, answer.text
        end = time.monotonic() + WITHIN_SECONDS
        while len(stored_of(working, asset_id)) < 2 * len(before):
            assert time.monotonic() < end
            for size in ("thumbnail", "preview"):
                assert fetch_image(owner, asset_id, size).width
    wait_until_idle(working, admin.key)
    assert len(before) == 2
    assert before < stored_of(working, asset_id), "the old ones stay until nobody can be reading them"


def stored_of(service: Service, asset_id: str) -> set[str]:
    return {path for path in service.stack.objects() if asset_id in path}


def live_photo(identifier: str) -> bytes:
    """A JPEG with Apple's maker note, which holds the content identifier."""
    text = identifier.encode() + b"\0"
    note = b"Apple iOS\0\0\1MM" + struct.pack(">HHHII", 1, 0x0011, 2, len(text), 28) + text
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Apple"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = note
    return encode_jpeg(make_quarters(80, 60), exif=exif) + identifier.encode()


def live_video(identifier: str) -> bytes:
    key = f"com.apple.quicktime.content.identifier={identifier}"
    return make_video(".mov", *H264, "-an", "-movflags", "use_metadata_tags", "-metadata", key, sound=False)


@pytest.mark.parametrize("place", ["uploads", "library"])
def test_a_live_photo_is_paired_with_its_video(working: Service, admin: Account, tmp_path: Path, place: str) -> None:
    identifiers = {name: str(uuid4()).upper() for name in ("IMG_1", "IMG_2")}
    files = {f"{name}.JPG": live_photo(identifier) for name, identifier in identifiers.items()}
    files |= {f"{name}.MOV": live_video(identifier) for name, identifier in identifiers.items()}
    order = ("IMG_1.JPG", "IMG_1.MOV", "IMG_2.MOV", "IMG_2.JPG")
    owner = working.people.add(is_admin=True)
    with working.client(owner) as client:
        if place == "uploads":
            for name in order:
                uploaded(client, files[name], name)
        else:
            for name in order:
                (tmp_path / name).write_bytes(files[name])
            body = {"ownerId": str(owner.id), "name": "Phone", "importPaths": [str(tmp_path)]}
            library = client.post("/api/libraries", json=body).json()["id"]
            client.post(f"/api/libraries/{library}/scan")
            eventually(lambda: client.get(f"/api/libraries/{library}").json()["lastScan"], "the scan ends")
        wait_until_idle(working, admin.key)

        photos = {each["originalFileName"]: each for each in client.get("/api/assets").json()["items"]}
        assert set(photos) == {"IMG_1.JPG", "IMG_2.JPG"}, "the videos are hidden"
        for name, photo in photos.items():
            video = client.get(f"/api/assets/{photo['livePhotoVideoId']}").json()
            assert (video["originalFileName"], video["visibility"]) == (name.replace("JPG", "MOV"), "hidden")
            assert client.get(f"/api/assets/{video['id']}/video/playback").status_code == 200
    assert_consistent(working.stack)
