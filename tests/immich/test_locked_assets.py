"""Immich shows locked assets to nobody without a PIN, and to no API key: a key that was imported finds none here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.immich.conftest import COMBINATION_IDS, COMBINATIONS, MakeTakeover
from tests.immich.takeover import Takeover

NAME = "ada"
BOX = {"x": 0, "y": 0, "width": 8, "height": 8, "imageWidth": 32, "imageHeight": 24}


@pytest.fixture(scope="module", params=list(COMBINATIONS), ids=COMBINATION_IDS)
def takeover(request: pytest.FixtureRequest, make_takeover: MakeTakeover) -> Iterator[Takeover]:
    """Imported, and served. The person's key has all permissions, one asset is locked, and one is a video."""
    takeover = make_takeover(request.param, assets=20)
    own = takeover.installation
    chosen = """SELECT id FROM asset WHERE id = ANY(%s) AND "ownerId" = %s AND "deletedAt" IS NULL AND "livePhotoVideoId" IS NULL
        AND "libraryId" IS NULL AND visibility = 'timeline' AND type = 'IMAGE' ORDER BY id LIMIT 1"""
    own.execute(f"UPDATE asset SET visibility = 'locked' WHERE id IN ({chosen})", [own.plain, own.users[NAME]])
    video = "SELECT id FROM asset WHERE id = ANY(%s) AND type = 'VIDEO' AND visibility = 'timeline' ORDER BY id LIMIT 1"
    own.execute(f'UPDATE asset SET "ownerId" = %s WHERE id IN ({video})', [own.users[NAME], own.plain])
    takeover.report("import")
    takeover.service.start()
    yield takeover
    takeover.service.stop()


@pytest.fixture
def key(takeover: Takeover) -> Iterator[httpx.Client]:
    """The imported key."""
    with takeover.client(NAME) as client:
        yield client


@pytest.fixture
def owner(takeover: Takeover) -> Iterator[httpx.Client]:
    """The same person with a key that was made here."""
    with takeover.own_client(NAME) as client:
        yield client


@pytest.fixture
def locked(takeover: Takeover) -> UUID:
    own = takeover.installation
    query = "SELECT id FROM asset WHERE \"ownerId\" = %s AND visibility = 'locked'"
    ((asset_id,),) = own.execute(query, [own.users[NAME]])
    return asset_id


def _requests(asset_id: UUID) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Requests about one asset, those that change it last."""
    ids = [str(asset_id)]
    return [
        ("GET", f"/api/assets/{asset_id}", None),
        ("GET", f"/api/assets/{asset_id}/original", None),
        ("GET", f"/api/assets/{asset_id}/thumbnail", None),
        ("GET", f"/api/assets/{asset_id}/thumbnail?size=fullsize", None),
        ("GET", f"/api/assets/{asset_id}/video/playback", None),
        ("GET", f"/api/assets/{asset_id}/metadata", None),
        ("POST", "/api/download/info", {"assetIds": ids}),
        ("POST", "/api/download/archive", {"assetIds": ids}),
        ("POST", "/api/download/links", {"assetIds": ids}),
        ("POST", "/api/assets/jobs", {"assetIds": ids, "name": "refresh-metadata"}),
        ("PUT", f"/api/people/{uuid4()}/thumbnail", {"assetId": str(asset_id), **BOX}),
        ("PUT", f"/api/assets/{asset_id}", {"visibility": "timeline"}),
        ("PUT", "/api/assets", {"ids": ids, "visibility": "timeline"}),
        ("DELETE", "/api/assets", {"ids": ids}),
        ("DELETE", "/api/assets", {"ids": ids, "force": True}),
        ("POST", "/api/trash/restore/assets", {"ids": ids}),
    ]


def test_a_locked_asset_is_as_one_that_does_not_exist(key: httpx.Client, owner: httpx.Client, locked: UUID) -> None:
    before = owner.get(f"/api/assets/{locked}").json()
    for method, path, body in _requests(locked):
        answer = key.request(method, path, json=body)
        assert answer.status_code == 404, f"{method} {path}: {answer.status_code} {answer.text}"
        assert "media" not in answer.text, f"{method} {path} tells that the asset is there: {answer.text}"
    assert owner.get(f"/api/assets/{locked}").json() == before
    assert owner.get(f"/api/assets/{locked}/original").status_code == 200


def _listed(client: httpx.Client) -> dict[str, int]:
    """How many locked assets each list has."""
    months = client.get("/api/timeline/buckets?visibility=locked").json()
    columns = [
        client.get("/api/timeline/bucket", params={"visibility": "locked", "timeBucket": month["timeBucket"]}).json()
        for month in months
    ]
    wanted = {"visibility": "locked"}
    return {
        "list": len(client.get("/api/assets?visibility=locked").json()["items"]),
        "statistics": client.get("/api/assets/statistics?visibility=locked").json()["total"],
        "months": sum(month["count"] for month in months),
        "month": sum(len(each["id"]) for each in columns),
        "search": client.post("/api/search/metadata", json=wanted).json()["assets"]["total"],
        "random": len(client.post("/api/search/random", json=wanted).json()),
        "large": len(client.post("/api/search/large-assets?visibility=locked").json()),
        "count": client.post("/api/search/statistics", json=wanted).json()["total"],
    }


def test_no_list_has_locked_assets(key: httpx.Client, owner: httpx.Client, locked: UUID) -> None:
    listed = _listed(owner)
    assert min(listed.values()) > 0, listed
    assert set(_listed(key).values()) == {0}
    month = {
        "visibility": "locked",
        "timeBucket": owner.get("/api/timeline/buckets?visibility=locked").json()[0]["timeBucket"],
    }
    assert owner.get("/api/timeline/bucket", params=month).json()["id"] == [str(locked)]
    assert key.get("/api/timeline/bucket", params=month).json()["id"] == []


def test_an_administrators_key_counts_no_locked_assets(key: httpx.Client, owner: httpx.Client) -> None:
    person = owner.get("/api/users/me").json()
    assert person["isAdmin"]
    path = f"/api/admin/users/{person['id']}/statistics"
    totals = [client.get(path, params={"visibility": "locked"}).json()["total"] for client in (key, owner)]
    assert totals == [0, 1]


def test_the_trash_keeps_locked_assets(key: httpx.Client, owner: httpx.Client, locked: UUID) -> None:
    asked = {"ids": [str(locked)]}
    assert owner.request("DELETE", "/api/assets", json=asked).status_code == 204
    for step in ("restore", "empty"):
        assert key.post(f"/api/trash/{step}").status_code == 200
        assert owner.get(f"/api/assets/{locked}").json()["isTrashed"]
    assert owner.post("/api/trash/restore").json() == {"count": 1}
    assert not owner.get(f"/api/assets/{locked}").json()["isTrashed"]


def test_a_locked_video_of_a_live_photo_is_not_there(key: httpx.Client, owner: httpx.Client) -> None:
    (video, *_), (photo, other, *_) = (
        [each["id"] for each in key.get(f"/api/assets?type={type_}").json()["items"]] for type_ in ("VIDEO", "IMAGE")
    )
    asked = {"assetIds": [photo]}
    assert owner.put(f"/api/assets/{photo}", json={"livePhotoVideoId": video}).status_code == 200
    assert _plan(key, asked) == [photo, video]
    assert owner.put(f"/api/assets/{video}", json={"visibility": "locked"}).status_code == 200

    assert _plan(key, asked) == [photo]
    assert _plan(owner, asked) == [photo, video]
    assert key.put(f"/api/assets/{other}", json={"livePhotoVideoId": video}).status_code == 404


def _plan(client: httpx.Client, asked: dict[str, Any]) -> list[str]:
    answer = client.post("/api/download/info", json=asked).json()
    return [asset_id for archive in answer["archives"] for asset_id in archive["assetIds"]]


def test_no_key_that_sees_more_is_made_with_it(key: httpx.Client, owner: httpx.Client) -> None:
    wanted = {"name": "another", "permissions": ["all"]}
    assert key.post("/api/api-keys", json=wanted).status_code == 403
    assert owner.post("/api/api-keys", json=wanted).status_code == 201
