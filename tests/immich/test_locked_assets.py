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
    """Imported, and served. The person's key has all permissions, and one asset is locked."""
    takeover = make_takeover(request.param, assets=10)
    own = takeover.installation
    chosen = """SELECT id FROM asset WHERE id = ANY(%s) AND "ownerId" = %s AND "deletedAt" IS NULL AND "livePhotoVideoId" IS NULL
        AND "libraryId" IS NULL AND visibility = 'timeline' ORDER BY id LIMIT 1"""
    own.execute(f"UPDATE asset SET visibility = 'locked' WHERE id IN ({chosen})", [own.plain, own.users[NAME]])
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


def test_no_key_that_sees_more_is_made_with_it(key: httpx.Client, owner: httpx.Client) -> None:
    wanted = {"name": "another", "permissions": ["all"]}
    assert key.post("/api/api-keys", json=wanted).status_code == 403
    assert owner.post("/api/api-keys", json=wanted).status_code == 201
