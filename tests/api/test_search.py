"""The metadata search for assets, in Immich's format."""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.catalog.catalog import Catalog
from tests.api.photos import clip, photo
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import upload

KEY = clip("the one with the key")
NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"
EXIF: dict[str, dict[str, object]] = {
    "Sommer 100%.jpg": {"make": "Canon", "model": "EOS R5", "lensModel": "RF 50mm", "rating": 4},
    "winter.mp4": {"make": "Apple"},
    "kept.jpg": {
        "make": "Leica",
        "city": "Köln",
        "state": "NRW",
        "country": "Germany",
        "rating": 4,
        "description": "Über die Straße",
    },
}
HARMLESS = {
    "withPeople": True,
    "withStacked": False,
    "withExif": False,
    "withDeleted": False,
    "isNotInAlbum": True,
    "personIds": [],
    "tagIds": [],
    "albumIds": [],
    "page": 1,
    "size": 100,
    "order": "desc",
}
"""Parameters that Immich's clients send, and that have no effect here."""


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    """One for all tests: none of them changes anything."""
    return service.people.add()


@pytest.fixture(scope="module")
def client(service: Service, account: Account) -> Iterator[httpx.Client]:
    with service.client(account) as client:
        yield client


@pytest.fixture(scope="module")
def album(service: Service, account: Account, client: httpx.Client) -> dict[str, str]:
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

    async def tell(catalog: Catalog) -> None:
        for name, exif in EXIF.items():
            assert await catalog.assets.update(account.id, UUID(ids[name]), {"exif": exif})

    service.people.call(tell)
    return ids


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, ["winter.mp4", "kept.jpg", "sommer_2.JPG", "Sommer 100%.jpg"]),
        ({"order": "asc"}, ["Sommer 100%.jpg", "sommer_2.JPG", "kept.jpg", "winter.mp4"]),
        ({"orderBy": {"direction": "asc"}, "rating": 4}, ["Sommer 100%.jpg", "kept.jpg"]),
        ({"orderBy": {"field": "localDateTime"}, "order": "asc", "rating": 4}, ["kept.jpg", "Sommer 100%.jpg"]),
        ({"orderBy": {"field": "fileSizeInBytes", "direction": "asc"}, "size": 1}, ["winter.mp4"]),
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
        ({"make": "Canon"}, ["Sommer 100%.jpg"]),
        ({"make": "canon"}, []),
        ({"make": None, "takenBefore": "2022-08-30T00:00:00Z"}, ["sommer_2.JPG"]),
        ({"make": "Canon", "model": "EOS R5", "lensModel": "RF 50mm"}, ["Sommer 100%.jpg"]),
        ({"make": "Canon", "model": "EOS R6"}, []),
        ({"city": "Köln", "state": "NRW", "country": "Germany"}, ["kept.jpg"]),
        ({"city": None, "rating": 4}, ["Sommer 100%.jpg"]),
        ({"rating": 4}, ["kept.jpg", "Sommer 100%.jpg"]),
        ({"rating": 5}, []),
        ({"rating": None}, ["winter.mp4", "sommer_2.JPG"]),
        ({"description": "die stra"}, ["kept.jpg"]),
        ({"description": unicodedata.normalize("NFD", "ÜBER")}, ["kept.jpg"]),
        ({"description": "%"}, []),
        ({"originalPath": "/UPLOAD/", "type": "VIDEO"}, ["winter.mp4"]),
        ({"originalPath": "/nowhere/"}, []),
        ({"previewPath": "/nowhere/preview.jpg"}, []),
        ({"thumbnailPath": "/nowhere/preview.jpg"}, []),
        ({"encodedVideoPath": "/nowhere/preview.jpg"}, []),
        ({"isEncoded": True}, []),
        ({"isEncoded": False, "type": "VIDEO"}, ["winter.mp4"]),
        ({"isMotion": True}, []),
        ({"isMotion": False, "type": "VIDEO"}, ["winter.mp4"]),
        ({"isOffline": True}, []),
        ({"minFileSize": 100_000}, []),
        ({"minFileSize": len(KEY), "maxFileSize": len(KEY)}, ["winter.mp4"]),
        ({"isVisible": False}, []),
        ({"isVisible": True, "type": "VIDEO"}, ["winter.mp4"]),
        ({"isVisible": True, "visibility": "hidden"}, []),
        ({"isArchived": True}, ["kept.jpg"]),
        ({"isArchived": False, "rating": 4}, ["Sommer 100%.jpg"]),
        ({"withArchived": False, "rating": 4}, ["Sommer 100%.jpg"]),
        (HARMLESS | {"type": "VIDEO"}, ["winter.mp4"]),
        (
            dict.fromkeys(("personIds", "query", "anything", "page", "size", "order", "type", "withDeleted"))
            | {"rating": 4},
            ["kept.jpg", "Sommer 100%.jpg"],
        ),
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
    assert found["nextPage"] is None or "size" in conditions


@pytest.mark.parametrize(
    "condition",
    [
        {"filter": {"make": {"eq": "Canon"}}},
        {"query": "beach"},
        {"ocr": "text"},
        {"isTrashed": True},
        {"personIds": [NOBODY]},
        {"tagIds": [NOBODY]},
        {"albumIds": [NOBODY]},
        {"cursor": "abc"},
        {"orderBy": {"field": "rating"}},
        {"orderBy": {"by": "rating"}},
        {"takenaAfter": "2022-08-02T00:00:00Z"},
        {"": False},
    ],
    ids=str,
)
@pytest.mark.usefixtures("album")
def test_what_would_be_ignored_is_refused(client: httpx.Client, condition: dict[str, Any]) -> None:
    """Otherwise a client that deletes the results would delete all assets."""
    answer = client.post("/api/search/metadata", json={**HARMLESS, **condition})

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert next(iter(condition)) in answer.json()["detail"]


@pytest.mark.usefixtures("album")
def test_all_that_is_not_known_is_named(client: httpx.Client) -> None:
    answer = client.post("/api/search/metadata", json={"mood": "good", "type": "VIDEO", "weather": None, "season": 3})

    assert answer.json()["detail"].startswith("mood, season: ")


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


def test_a_random_choice_is_of_what_matches(client: httpx.Client, album: dict[str, str]) -> None:
    everything = client.post("/api/search/random", json={}).json()
    one = client.post("/api/search/random", json={"size": 1, "isFavorite": False}).json()
    some = client.get("/api/assets/random", params={"count": 3, "apiKey": "ignored-beside-the-header"}).json()

    visible = set(album.values()) - {album["old.jpg"]}
    assert {asset["id"] for asset in everything} == visible
    assert len(everything) == len(visible)
    assert len(one) == 1
    assert not one[0]["isFavorite"]
    assert len({asset["id"] for asset in some} & visible) == 3
    assert client.post("/api/search/random", json={"libraryId": album["kept.jpg"]}).json() == []


def test_what_matches_is_counted(client: httpx.Client, album: dict[str, str]) -> None:
    def count(**conditions: Any) -> int:
        answer = client.post("/api/search/statistics", json=conditions)
        assert answer.status_code == 200
        return answer.json()["total"]

    assert (count(), count(withDeleted=True)) == (len(album) - 1, len(album))
    assert count(id=album["kept.jpg"], type="IMAGE") == 1


def test_the_largest_come_first(client: httpx.Client, album: dict[str, str]) -> None:
    found = client.post(
        "/api/search/large-assets", params={"size": 3, "withExif": "true", "isFavorite": "false"}
    ).json()
    none = client.post("/api/search/large-assets", params={"minFileSize": 10**12}).json()
    refused = client.post("/api/search/large-assets", params={"colour": "red"})

    sizes = [asset["exifInfo"]["fileSizeInByte"] for asset in found]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < len(found) <= 3
    assert {asset["id"] for asset in found} <= set(album.values())
    assert none == []
    assert (refused.status_code, "colour" in refused.json()["message"]) == (400, True)


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
        {"takenAfter": "2024"},
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
