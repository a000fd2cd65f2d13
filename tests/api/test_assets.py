"""Assets: the owner lists, reads, changes and deletes them; other users cannot."""

from __future__ import annotations

import base64
import hashlib
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.api.photos import clip, photo
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import upload

NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"

VIDEO_NAME = "clip.mp4"
REQUIRED = {
    *("checksum", "createdAt", "duration", "fileCreatedAt", "fileModifiedAt", "hasMetadata", "height", "id"),
    *("isArchived", "isEdited", "isFavorite", "isOffline", "isTrashed", "localDateTime", "originalFileName"),
    *("originalPath", "ownerId", "thumbhash", "type", "updatedAt", "visibility", "width"),
}


def test_an_upload_shows_with_every_field_of_immich(client: httpx.Client, account: Account) -> None:
    content = photo()
    fields = {
        "fileCreatedAt": "2023-07-01T18:30:00.250+02:00",
        "fileModifiedAt": "2023-07-02T00:00:00Z",
        "isFavorite": "true",
        "visibility": "archive",
        "deviceAssetId": "IMG_1-77",
        "deviceId": "phone",
    }

    asset = client.get(f"/api/assets/{_new(client, content, 'Ferien ä.JPG', fields)}").json()

    assert asset.keys() >= REQUIRED
    assert UUID(asset["id"])
    assert asset["ownerId"] == str(account.id)
    assert (asset["type"], asset["originalMimeType"]) == ("IMAGE", "image/jpeg")
    assert asset["originalFileName"] == "Ferien ä.JPG"
    assert base64.b64decode(asset["checksum"]) == hashlib.sha1(content).digest()
    assert asset["fileCreatedAt"] == "2023-07-01T16:30:00.250Z"
    assert asset["localDateTime"] == "2023-07-01T18:30:00.250Z"
    assert asset["fileModifiedAt"] == "2023-07-02T00:00:00.000Z"
    assert (asset["isFavorite"], asset["isArchived"], asset["visibility"]) == (True, True, "archive")
    assert (asset["isTrashed"], asset["isOffline"], asset["isEdited"]) == (False, False, False)
    assert (asset["deviceAssetId"], asset["deviceId"]) == ("IMG_1-77", "phone")
    assert asset["exifInfo"]["fileSizeInByte"] == len(content)
    assert (asset["people"], asset["unassignedFaces"], asset["tags"]) == ([], [], [])
    assert (asset["stack"], asset["resized"]) == (None, True)
    assert abs(datetime.fromisoformat(asset["createdAt"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_duration_is_a_number_of_milliseconds_whichever_version_sent_it(client: httpx.Client) -> None:
    old = _new(client, clip(), VIDEO_NAME, {"duration": "0:01:02.50000"})
    new = _new(client, clip(), VIDEO_NAME, {"duration": "62500"})

    assert client.get(f"/api/assets/{old}").json()["duration"] == 62500
    assert client.get(f"/api/assets/{new}").json()["duration"] == 62500
    assert client.get(f"/api/assets/{new}").json()["type"] == "VIDEO"


def test_only_what_is_given_changes(client: httpx.Client) -> None:
    before = client.get(f"/api/assets/{_new(client)}").json()

    first = client.put(f"/api/assets/{before['id']}", json={"isFavorite": True, "unknown": [1]})
    second = client.put(
        f"/api/assets/{before['id']}",
        json={
            "visibility": "archive",
            "description": "am See",
            "rating": 4,
            "latitude": 47.5,
            "longitude": 8.25,
            "dateTimeOriginal": "2020-02-29T23:30:00+01:00",
        },
    )

    assert first.status_code == second.status_code == 200
    assert _differences(before, first.json()) == {"isFavorite", "updatedAt"}
    after = client.get(f"/api/assets/{before['id']}").json()
    assert after == second.json()
    assert after["isFavorite"] is True
    assert (after["visibility"], after["isArchived"]) == ("archive", True)
    shown = {name: after["exifInfo"][name] for name in ("description", "rating", "latitude", "longitude")}
    assert shown == {"description": "am See", "rating": 4, "latitude": 47.5, "longitude": 8.25}
    assert after["fileCreatedAt"] == "2020-02-29T22:30:00.000Z"
    assert after["localDateTime"] == "2020-02-29T23:30:00.000Z"
    assert after["checksum"] == before["checksum"]


def test_a_snake_case_name_is_no_field(client: httpx.Client) -> None:
    asset = client.get(f"/api/assets/{_new(client)}").json()

    changed = client.put(f"/api/assets/{asset['id']}", json={"is_favorite": True})
    searched = client.post("/api/search/metadata", json={"is_favorite": True})

    assert changed.status_code == 200
    assert changed.json()["isFavorite"] is False
    assert searched.status_code == 400
    assert "is_favorite" in searched.json()["message"]


def test_a_photo_gets_its_motion_video_and_loses_it(client: httpx.Client) -> None:
    video, still = _new(client, clip(), VIDEO_NAME), _new(client)

    joined = client.put(f"/api/assets/{still}", json={"livePhotoVideoId": video})
    parted = client.put(f"/api/assets/{still}", json={"livePhotoVideoId": None})

    assert joined.json()["livePhotoVideoId"] == video
    assert parted.json()["livePhotoVideoId"] is None


def test_a_video_in_sight_outlives_the_photo_that_showed_it(client: httpx.Client) -> None:
    video, still = _new(client, clip(), VIDEO_NAME), _new(client)
    client.put(f"/api/assets/{still}", json={"livePhotoVideoId": video})
    client.put(f"/api/assets/{video}", json={"visibility": "timeline", "isFavorite": True})

    client.request("DELETE", "/api/assets", json={"ids": [still], "force": True})

    assert client.get(f"/api/assets/{video}/original").status_code == 200
    assert _listed(client) == {video}


def test_a_video_gets_no_motion_video(client: httpx.Client) -> None:
    video, other = _new(client, clip(), VIDEO_NAME), _new(client, clip(), VIDEO_NAME)

    changed = client.put(f"/api/assets/{video}", json={"livePhotoVideoId": other})
    sent = upload(client, clip(), VIDEO_NAME, fields={"livePhotoVideoId": other})

    assert (changed.status_code, sent.status_code) == (400, 400)
    assert "livePhotoVideoId" in changed.json()["message"]
    assert "livePhotoVideoId" in sent.json()["message"]
    assert _listed(client) == {video, other}


@pytest.mark.parametrize(
    "change",
    [
        {"visibility": "everywhere"},
        {"isFavorite": "perhaps"},
        {"rating": 6},
        {"latitude": 90.5, "longitude": 1},
        {"description": "a\0b"},
        {"dateTimeOriginal": "yesterday"},
        {"dateTimeOriginal": "2024"},
        {"dateTimeOriginal": 1_700_000_000},
        {"dateTimeOriginal": "0001-01-01T00:00:00+14:00"},
        {"livePhotoVideoId": "none"},
    ],
    ids=str,
)
def test_a_change_that_makes_no_sense_names_its_field(client: httpx.Client, change: dict[str, Any]) -> None:
    before = client.get(f"/api/assets/{_new(client)}").json()

    answer = client.put(f"/api/assets/{before['id']}", json=change)

    assert answer.status_code == 400
    assert next(iter(change)) in answer.json()["message"]
    assert client.get(f"/api/assets/{before['id']}").json() == before


def test_pages_show_every_asset_once_and_the_newest_first(client: httpx.Client) -> None:
    seed = random.SystemRandom().randrange(10**6)
    days = [*range(1, 8), 3, 3]
    random.Random(seed).shuffle(days)
    ids = {_new(client, fields={"fileCreatedAt": f"2021-03-{day:02}T12:00:00Z"}) for day in days}

    pages = _pages(client, limit=2)

    assert [len(page) for page in pages] == [2, 2, 2, 2, 1], f"seed {seed}"
    shown = [asset for page in pages for asset in page]
    assert {asset["id"] for asset in shown} == ids
    moments = [asset["fileCreatedAt"] for asset in shown]
    assert moments == sorted(moments, reverse=True), f"seed {seed}"


def test_the_list_is_filtered(client: httpx.Client) -> None:
    still, film, kept, binned = _new(client), _new(client, clip(), VIDEO_NAME), _new(client), _new(client)
    client.put(f"/api/assets/{kept}", json={"visibility": "archive"})
    client.request("DELETE", "/api/assets", json={"ids": [binned]})

    assert _listed(client) == {still, film, kept}
    assert _listed(client, type="VIDEO") == {film}
    assert _listed(client, type="IMAGE") == {still, kept}
    assert _listed(client, trashed="true") == {binned}
    assert _listed(client, trashed="true", type="VIDEO") == set()
    assert _listed(client, visibility="archive") == {kept}
    assert _listed(client, library=NOBODY) == set()


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "type=SONG", "trashed=perhaps", "library=x", "cursor=x", "cursor=%00"]
)
def test_a_list_that_can_not_be_made_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/api/assets?{query}")

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert query.partition("=")[0] in answer.json()["message"]


def test_deleting_goes_through_the_trash(client: httpx.Client) -> None:
    asset, other = _new(client), _new(client)

    assert client.request("DELETE", "/api/assets", json={"ids": [asset]}).status_code == 204
    assert client.get(f"/api/assets/{asset}").json()["isTrashed"] is True
    assert _statistics(client) == (1, 0)
    assert _statistics(client, isTrashed="true") == (1, 0)

    restored = client.post("/api/trash/restore/assets", json={"ids": [asset, other]})
    assert restored.json() == {"count": 1}
    assert client.get(f"/api/assets/{asset}").json()["isTrashed"] is False
    assert client.get(f"/api/assets/{asset}/original").status_code == 200


def test_everything_comes_back_out_of_the_trash(client: httpx.Client) -> None:
    ids = [_new(client) for _ in range(3)]
    client.request("DELETE", "/api/assets", json={"ids": ids})

    assert client.post("/api/trash/restore").json() == {"count": 3}
    assert _listed(client) == set(ids)


def test_the_trash_is_emptied_and_nothing_else(
    client: httpx.Client, other_client: httpx.Client, account: Account
) -> None:
    kept, trashed, others = _new(client), [_new(client) for _ in range(3)], _new(other_client)
    client.request("DELETE", "/api/assets", json={"ids": trashed})
    other_client.request("DELETE", "/api/assets", json={"ids": [others]})
    assert client.get(f"/api/assets/{trashed[0]}/original").status_code == 200

    assert client.post("/api/trash/empty").json() == {"count": 3}

    assert client.post("/api/trash/empty").json() == {"count": 0}
    for asset in trashed:
        assert client.get(f"/api/assets/{asset}").status_code == 404
        assert client.get(f"/api/assets/{asset}/original").status_code == 404
    assert _listed(client) == {kept}
    assert _listed(other_client, trashed="true") == {others}
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == len(photo())


@pytest.mark.parametrize("first_into_the_trash", [False, True], ids=["at once", "out of the trash"])
def test_a_forced_delete_removes_for_good(
    client: httpx.Client, account: Account, *, first_into_the_trash: bool
) -> None:
    content = photo()
    asset = _new(client, content)
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == len(content)
    assert client.get(f"/api/assets/{asset}/original").status_code == 200
    if first_into_the_trash:
        client.request("DELETE", "/api/assets", json={"ids": [asset]})

    assert client.request("DELETE", "/api/assets", json={"ids": [asset, asset], "force": True}).status_code == 204

    assert client.get(f"/api/assets/{asset}").status_code == 404
    assert client.get(f"/api/assets/{asset}/original").status_code == 404
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == 0
    assert _new(client, content) != asset


def test_statistics_count_photos_and_videos(client: httpx.Client) -> None:
    loved = _new(client)
    _new(client)
    _new(client, clip(), VIDEO_NAME)
    client.put(f"/api/assets/{loved}", json={"isFavorite": True})

    assert client.get("/api/assets/statistics").json() == {"images": 2, "videos": 1, "total": 3}
    assert _statistics(client, isFavorite="true") == (1, 0)
    assert _statistics(client, visibility="archive") == (0, 0)


@pytest.mark.parametrize("whose", ["nobody's", "somebody else's"])
def test_what_is_not_yours_is_not_there(client: httpx.Client, other_client: httpx.Client, whose: str) -> None:
    asset = NOBODY if whose == "nobody's" else _new(other_client)
    mine = _new(client)

    answers = [
        client.get(f"/api/assets/{asset}"),
        client.put(f"/api/assets/{asset}", json={"isFavorite": True}),
        client.get(f"/api/assets/{asset}/original"),
        client.request("DELETE", "/api/assets", json={"ids": [mine, asset]}),
        client.request("DELETE", "/api/assets", json={"ids": [mine, asset], "force": True}),
        client.post("/api/trash/restore/assets", json={"ids": [mine, asset]}),
        client.put(f"/api/assets/{mine}", json={"livePhotoVideoId": asset}),
        client.post("/api/assets/jobs", json={"assetIds": [mine, asset], "name": "refresh-metadata"}),
        client.get(f"/api/assets/{asset}/metadata"),
    ]

    assert [answer.status_code for answer in answers] == [404] * len(answers)
    for bulk in answers[3:6]:
        assert asset in bulk.json()["message"]
        assert mine not in bulk.json()["message"]
    assert _listed(client) == {mine}
    if whose == "somebody else's":
        assert other_client.get(f"/api/assets/{asset}").json()["isFavorite"] is False
        assert other_client.get(f"/api/assets/{asset}").json()["isTrashed"] is False


def test_a_check_keeps_the_order_and_takes_both_spellings(client: httpx.Client, other_client: httpx.Client) -> None:
    mine, binned, foreign, new = photo(), photo(), photo(), photo()
    held, trashed = _new(client, mine), _new(client, binned)
    client.request("DELETE", "/api/assets", json={"ids": [trashed]})
    _new(other_client, foreign)
    asked = [
        ("/a/1.jpg", hashlib.sha1(new).hexdigest()),
        ("C:\\b\\2.jpg", hashlib.sha1(mine).hexdigest().upper()),
        ("../../3.jpg", base64.b64encode(hashlib.sha1(binned).digest()).decode()),
        ("4 ä\u202e", hashlib.sha1(foreign).hexdigest()),
        ("C:\\b\\2.jpg", base64.b64encode(hashlib.sha1(mine).digest()).decode()),
        ("", hashlib.sha1(new).hexdigest()),
    ]

    answer = client.post(
        "/api/assets/bulk-upload-check", json={"assets": [{"id": name, "checksum": sum_} for name, sum_ in asked]}
    )

    def rejected(asset: str, *, is_trashed: bool) -> dict[str, Any]:
        return {"action": "reject", "reason": "duplicate", "assetId": asset, "isTrashed": is_trashed}

    accepted = {"action": "accept"}
    assert answer.json()["results"] == [
        {"id": "/a/1.jpg", **accepted},
        {"id": "C:\\b\\2.jpg", **rejected(held, is_trashed=False)},
        {"id": "../../3.jpg", **rejected(trashed, is_trashed=True)},
        {"id": "4 ä\u202e", **accepted},
        {"id": "C:\\b\\2.jpg", **rejected(held, is_trashed=False)},
        {"id": "", **accepted},
    ]


def test_a_check_of_thousands(client: httpx.Client) -> None:
    content = photo()
    held = _new(client, content)
    folder = "/home/anna/" + "a long folder name/" * 80
    asked = [
        {"id": f"{folder}{number}.jpg", "checksum": hashlib.sha1(str(number).encode()).hexdigest()}
        for number in range(5000)
    ]
    asked[4321]["checksum"] = hashlib.sha1(content).hexdigest()

    results = client.post("/api/assets/bulk-upload-check", json={"assets": asked}).json()["results"]

    assert [result["id"] for result in results] == [item["id"] for item in asked]
    assert [result["assetId"] for result in results if result["action"] == "reject"] == [held]


@pytest.mark.parametrize("checksum", ["", "zz", "0" * 39, "0" * 41, "=" * 28, "0" * 40 + "\0", None, 5, ["a"]])
def test_a_check_refuses_what_is_no_checksum(client: httpx.Client, checksum: object) -> None:
    asked = [{"id": "1", "checksum": "0" * 40}, {"id": "2", "checksum": checksum}]

    answer = client.post("/api/assets/bulk-upload-check", json={"assets": asked})

    assert answer.status_code == 400
    assert "assets.1.checksum" in answer.json()["message"]


@pytest.mark.parametrize(
    ("permission", "method", "path", "body"),
    [
        ("asset.read", "GET", "/api/assets", None),
        ("asset.read", "GET", f"/api/assets/{NOBODY}", None),
        ("asset.read", "POST", "/api/search/metadata", {}),
        ("asset.statistics", "GET", "/api/assets/statistics", None),
        ("asset.read", "GET", "/api/assets/random", None),
        ("asset.read", "POST", "/api/search/random", {}),
        ("asset.read", "POST", "/api/search/large-assets", None),
        ("asset.statistics", "POST", "/api/search/statistics", {}),
        ("asset.update", "PUT", f"/api/assets/{NOBODY}", {}),
        ("asset.update", "PUT", "/api/assets", {"ids": []}),
        ("asset.delete", "POST", "/api/trash/empty", None),
        ("job.create", "POST", "/api/assets/jobs", {"assetIds": [], "name": "refresh-metadata"}),
        ("asset.delete", "DELETE", "/api/assets", {"ids": []}),
        ("asset.delete", "POST", "/api/trash/restore/assets", {"ids": []}),
        ("asset.delete", "POST", "/api/trash/restore", None),
        ("asset.upload", "POST", "/api/assets", None),
        ("asset.upload", "POST", "/api/assets/bulk-upload-check", {"assets": []}),
        ("asset.download", "GET", f"/api/assets/{NOBODY}/original", None),
    ],
)
def test_a_key_without_the_permission_is_told_which(
    service: Service, account: Account, permission: str, method: str, path: str, body: object
) -> None:
    rest = {"asset.read", "asset.statistics", "asset.update", "asset.delete", "asset.upload", "asset.download"}
    key = service.people.add_key(account.id, tuple(rest - {permission}))

    with service.client() as client:
        answer = client.request(method, path, json=body, headers={"x-api-key": key})

    assert answer.status_code == 403
    assert answer.json()["message"] == f"Missing required permission: {permission}"


def _new(
    client: httpx.Client, content: bytes | None = None, name: str = "photo.jpg", fields: dict[str, str] | None = None
) -> str:
    answer = upload(client, content or photo(), name, fields=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def _pages(client: httpx.Client, **query: Any) -> list[list[dict[str, Any]]]:
    pages, cursor = [], None
    while len(pages) < 100:
        answer = client.get("/api/assets", params={**query, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        pages.append(answer.json()["items"])
        cursor = answer.json()["nextCursor"]
        if cursor is None:
            break
    return pages


def _listed(client: httpx.Client, **query: str) -> set[str]:
    return {asset["id"] for page in _pages(client, **query) for asset in page}


def _statistics(client: httpx.Client, **query: str) -> tuple[int, int]:
    found = client.get("/api/assets/statistics", params=query).json()
    return found["images"], found["videos"]


def _differences(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
