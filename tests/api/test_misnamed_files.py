"""Photos and videos under one another's names are taken for what they are, whether uploaded or found in a library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.consistency import assert_consistent
from tests.media.photo_files import encode_jpeg, make_quarters
from tests.media.video_files import AAC, H264, make_video
from tests.real.accounts import Account
from tests.real.processing import fetch_image, wait_until_idle
from tests.real.service import WORKING, Service
from tests.real.stacks import Stacks
from tests.real.uploads import upload, uploaded
from tests.real.waiting import eventually

INPUTS = Path(__file__).parent.parent / "inputs"


@pytest.fixture(scope="module")
def working(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(stacks.create("local", tmp_path_factory.mktemp("misnamed")), program=WORKING) as running:
        yield running
        assert_consistent(running.stack)


@pytest.fixture(scope="module")
def admin(working: Service) -> Account:
    return working.people.add(is_admin=True)


@pytest.fixture
def owner(working: Service) -> Iterator[httpx.Client]:
    with working.client(working.people.add()) as client:
        yield client


def assert_photo(client: httpx.Client, asset_id: str, data: bytes, mime_type: str) -> None:
    asset = client.get(f"/api/assets/{asset_id}").json()
    assert (asset["type"], asset["originalMimeType"], asset["duration"]) == ("IMAGE", mime_type, None)
    assert "processingError" not in asset
    assert fetch_image(client, asset_id, "preview").format == "JPEG"
    assert client.get(f"/api/assets/{asset_id}/video/playback").status_code == 404
    original = client.get(f"/api/assets/{asset_id}/original")
    assert (original.headers["content-type"], original.content) == (mime_type, data)


def assert_video(client: httpx.Client, asset_id: str, data: bytes, mime_type: str) -> None:
    asset = client.get(f"/api/assets/{asset_id}").json()
    assert (asset["type"], asset["originalMimeType"]) == ("VIDEO", mime_type)
    assert asset["duration"] > 0
    assert fetch_image(client, asset_id, "preview").format == "JPEG"
    played = client.get(f"/api/assets/{asset_id}/video/playback")
    assert (played.status_code, played.headers["content-type"]) == (200, mime_type)
    assert played.content == data


def test_uploads_are_taken_for_what_they_are(working: Service, admin: Account, owner: httpx.Client) -> None:
    jpeg, video = (INPUTS / "jpeg-named.MOV").read_bytes(), make_video(".mp4", *H264, *AAC)
    photo_id, video_id = uploaded(owner, jpeg, "IMG_1.MOV"), uploaded(owner, video, "IMG_2.JPG")

    for asset_id, kind in ((photo_id, "IMAGE"), (video_id, "VIDEO")):
        assert owner.get(f"/api/assets/{asset_id}").json()["type"] == kind, "before it is processed, too"
    assert owner.get(f"/api/assets/{photo_id}/video/playback").status_code == 404
    wait_until_idle(working, admin.key)

    assert_photo(owner, photo_id, jpeg, "image/jpeg")
    assert_video(owner, video_id, video, "video/mp4")
    names = {owner.get(f"/api/assets/{each}").json()["originalFileName"] for each in (photo_id, video_id)}
    assert names == {"IMG_1.MOV", "IMG_2.JPG"}, "the name is the user's"
    counts = owner.get("/api/assets/statistics").json()
    assert (counts["images"], counts["videos"]) == (1, 1)


def test_a_photo_named_as_a_video_has_a_live_photo_video(owner: httpx.Client) -> None:
    """What may be linked is decided by the content as well."""
    photo = encode_jpeg(make_quarters(320, 240))
    video_id = uploaded(owner, make_video(".mp4", *H264, *AAC), "clip.heic")
    other_id = uploaded(owner, (INPUTS / "jpeg-named.MOV").read_bytes(), "photo.mov")
    refused = upload(owner, photo, "live.mov", fields={"livePhotoVideoId": other_id})
    assert (refused.status_code, "livePhotoVideoId" in refused.json()["message"]) == (400, True)
    linked = upload(owner, photo, "live.mov", fields={"livePhotoVideoId": video_id})
    assert linked.status_code == 201, linked.text
    assert owner.get(f"/api/assets/{linked.json()['id']}").json()["livePhotoVideoId"] == video_id


def scan(client: httpx.Client, library: str) -> None:
    before = client.get(f"/api/libraries/{library}").json()["lastScan"]
    assert client.post(f"/api/libraries/{library}/scan").status_code == 204
    eventually(lambda: client.get(f"/api/libraries/{library}").json()["lastScan"] != before, "the scan ends")


def test_files_of_a_library_are_taken_for_what_they_are(working: Service, admin: Account, tmp_path: Path) -> None:
    """As soon as they are found. A new name changes nothing, new content does when it is processed."""
    folder = tmp_path / "library"
    folder.mkdir()
    jpeg, video = encode_jpeg(make_quarters(322, 240)), make_video(".mp4", *H264, *AAC)
    (folder / "photo.MOV").write_bytes(jpeg)
    (folder / "video.jpg").write_bytes(video)
    (folder / "text.mov").write_bytes(b"neither of the two" * 100)
    with working.client(admin) as owner:
        body = {"ownerId": str(admin.id), "importPaths": [str(folder)]}
        library = owner.post("/api/libraries", json=body).json()["id"]
        command_queues(owner, "pause")
        scan(owner, library)
        query = {"library": library, "limit": 100}
        ids = {each["originalFileName"]: each["id"] for each in owner.get("/api/assets", params=query).json()["items"]}
        for name, type_, mime_type, playback in (
            ("photo.MOV", "IMAGE", "image/jpeg", 404), ("video.jpg", "VIDEO", "video/mp4", 200), ("text.mov", "VIDEO", "video/quicktime", 200),
        ):  # fmt: skip
            asset = owner.get(f"/api/assets/{ids[name]}").json()
            assert (asset["type"], asset["originalMimeType"]) == (type_, mime_type)
            assert owner.get(f"/api/assets/{ids[name]}/original").headers["content-type"] == mime_type
            assert owner.get(f"/api/assets/{ids[name]}/video/playback").status_code == playback
        command_queues(owner, "resume")
        wait_until_idle(working, admin.key)
        assert_photo(owner, ids["photo.MOV"], jpeg, "image/jpeg")
        assert_video(owner, ids["video.jpg"], video, "video/mp4")
        assert "named .mov" in owner.get(f"/api/assets/{ids['text.mov']}").json()["processingError"]

        (folder / "photo.MOV").rename(folder / "photo.mp4")
        (folder / "video.jpg").write_bytes(jpeg + b"trailing")
        scan(owner, library)
        wait_until_idle(working, admin.key)
        forget(owner, ids["video.jpg"], "image/jpeg")
        assert owner.get(f"/api/assets/{ids['photo.MOV']}").json()["originalFileName"] == "photo.mp4"
        assert_photo(owner, ids["photo.MOV"], jpeg, "image/jpeg")
        assert_photo(owner, ids["video.jpg"], jpeg + b"trailing", "image/jpeg")
    assert_consistent(working.stack)


def command_queues(client: httpx.Client, command: str) -> None:
    for name in ("thumbnailGeneration", "videoConversion"):
        assert client.put(f"/api/jobs/{name}", json={"command": command, "force": False}).is_success


def forget(client: httpx.Client, asset_id: str, mime_type: str) -> None:
    """Wait until the service no longer remembers the file as it was: for a few seconds."""

    def is_sent() -> bool:
        return client.get(f"/api/assets/{asset_id}/original").headers["content-type"] == mime_type

    def is_played() -> bool:
        return client.get(f"/api/assets/{asset_id}/video/playback", headers={"range": "bytes=0-0"}).is_success

    eventually(is_sent, f"the original is sent as {mime_type}")
    eventually(lambda: is_played() == mime_type.startswith("video/"), "only a video is played")
