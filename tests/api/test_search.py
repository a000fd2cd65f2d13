"""The search by what is known about assets, in Immich's shape."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import httpx
import pytest

from tests.api.photos import photo
from tests.real.uploading import upload

KEY = photo("the one with the key")
NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"


@pytest.fixture
def album(client: httpx.Client) -> dict[str, str]:
    """Five assets, by name; `old.jpg` is in the trash, `kept.jpg` in the archive."""
    wanted = {
        "Sommer 100%.jpg": {"fileCreatedAt": "2022-08-01T00:00:00Z", "isFavorite": "true"},
        "sommer_2.JPG": {"fileCreatedAt": "2022-08-02T00:00:00Z", "deviceAssetId": "A-1"},
        "winter.mp4": {"fileCreatedAt": "2022-12-24T00:00:00Z"},
        "kept.jpg": {"fileCreatedAt": "2022-09-01T00:00:00Z", "visibility": "archive"},
        "old.jpg": {"fileCreatedAt": "2022-07-01T00:00:00Z"},
    }
    ids = {}
    for name, fields in wanted.items():
        answer = upload(client, KEY if name == "winter.mp4" else photo(), name, fields=fields)
        assert answer.status_code == 201, answer.text
        ids[name] = answer.json()["id"]
    client.request("DELETE", "/api/assets", json={"ids": [ids["old.jpg"]]})
    return ids


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, ["winter.mp4", "kept.jpg", "sommer_2.JPG", "Sommer 100%.jpg"]),
        ({"order": "asc"}, ["Sommer 100%.jpg", "sommer_2.JPG", "kept.jpg", "winter.mp4"]),
        ({"originalFileName": "SOMMER"}, ["sommer_2.JPG", "Sommer 100%.jpg"]),
        ({"originalFileName": "%"}, ["Sommer 100%.jpg"]),
        ({"originalFileName": "_"}, ["sommer_2.JPG"]),
        ({"originalFileName": "\\"}, []),
        ({"type": "VIDEO"}, ["winter.mp4"]),
        ({"isFavorite": True}, ["Sommer 100%.jpg"]),
        ({"isFavorite": True, "type": "VIDEO"}, []),
        ({"visibility": "archive"}, ["kept.jpg"]),
        ({"takenAfter": "2022-08-02T00:00:00Z", "takenBefore": "2022-09-01T00:00:00Z"}, ["kept.jpg", "sommer_2.JPG"]),
        ({"takenBefore": "2022-08-01T02:00:00+02:00"}, ["Sommer 100%.jpg"]),
        ({"createdBefore": "2022-01-01"}, []),
        ({"withDeleted": True, "takenBefore": "2022-08-01T00:00:00Z"}, ["Sommer 100%.jpg", "old.jpg"]),
        ({"trashedAfter": "2022-01-01T00:00:00Z"}, ["old.jpg"]),
        ({"deviceAssetId": "A-1"}, ["sommer_2.JPG"]),
        ({"checksum": hashlib.sha1(KEY).hexdigest()}, ["winter.mp4"]),
        ({"checksum": base64.b64encode(hashlib.sha1(KEY).digest()).decode()}, ["winter.mp4"]),
        ({"id": NOBODY}, []),
        ({"libraryId": NOBODY}, []),
        ({"personIds": [], "withPeople": True, "anything": 1, "type": "VIDEO"}, ["winter.mp4"]),
    ],
    ids=str,
)
def test_all_conditions_hold(
    client: httpx.Client, album: dict[str, str], conditions: dict[str, Any], expected: list[str]
) -> None:
    found = _search(client, conditions)

    assert [asset["originalFileName"] for asset in found["items"]] == expected
    assert [asset["id"] for asset in found["items"]] == [album[name] for name in expected]
    assert (found["total"], found["count"]) == (len(expected), len(expected))
    assert found["nextPage"] is None


def test_an_asset_is_found_by_its_id(client: httpx.Client, album: dict[str, str]) -> None:
    found = _search(client, {"id": album["kept.jpg"]})

    assert [asset["id"] for asset in found["items"]] == [album["kept.jpg"]]


def test_pages_follow_each_other(client: httpx.Client, album: dict[str, str]) -> None:
    first = _search(client, {"size": 3})
    second = _search(client, {"size": 3, "page": int(first["nextPage"])})

    assert first["nextPage"] == "2"
    assert second["nextPage"] is None
    ids = [asset["id"] for asset in first["items"] + second["items"]]
    assert len(ids) == 4
    assert set(ids) == set(album.values()) - {album["old.jpg"]}


def test_the_answer_has_immichs_shape(client: httpx.Client, album: dict[str, str]) -> None:
    plain = client.post("/api/search/metadata", json={"id": album["kept.jpg"]}).json()
    detailed = _search(client, {"id": album["kept.jpg"], "withExif": True})

    assert plain["albums"] == {"total": 0, "count": 0, "items": [], "facets": []}
    assert plain["assets"].keys() == {"total", "count", "items", "facets", "nextPage", "nextCursor"}
    assert plain["assets"]["facets"] == []
    assert "exifInfo" not in plain["assets"]["items"][0]
    assert detailed["items"][0]["exifInfo"]["fileSizeInByte"] == len(photo())
    assert {**plain["assets"]["items"][0], "exifInfo": None} == {**detailed["items"][0], "exifInfo": None}


@pytest.mark.usefixtures("album")
def test_nobody_finds_what_belongs_to_others(other_client: httpx.Client) -> None:
    assert _search(other_client, {"withDeleted": True})["items"] == []
    assert _search(other_client, {"checksum": hashlib.sha1(KEY).hexdigest()})["items"] == []


@pytest.mark.parametrize(
    "conditions",
    [
        {"type": "SONG"},
        {"originalFileName": "a\0b"},
        {"originalFileName": "\ud800"},
        {"checksum": "abc"},
        {"id": "abc"},
        {"takenAfter": "soon"},
        {"takenAfter": "0001-01-01T00:00:00+23:00"},
        {"page": 0},
        {"page": 10**30},
        {"size": 1001},
        {"order": "random"},
    ],
    ids=ascii,
)
def test_a_condition_that_makes_no_sense_is_named(client: httpx.Client, conditions: dict[str, Any]) -> None:
    escaped = json.dumps(conditions)  # httpx's own JSON can not carry half of a surrogate pair
    answer = client.post("/api/search/metadata", content=escaped, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert next(iter(conditions)) in answer.json()["message"]


def _search(client: httpx.Client, conditions: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/api/search/metadata", json=conditions)
    assert answer.status_code == 200, answer.text
    return answer.json()["assets"]
