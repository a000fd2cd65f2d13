"""Deeply nested JSON is refused when it is received, so that it cannot break later responses."""

from __future__ import annotations

import hashlib

import httpx
import pytest
import sqlalchemy as sa

from app.catalog.catalog import Catalog
from tests.api.photos import photo
from tests.real.chosen import stack
from tests.real.service import Service
from tests.real.uploads import upload, uploaded

__all__ = ["stack"]

NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"
JSON = {"content-type": "application/json"}
ROUTES = [
    ("POST", "/api/assets/bulk-upload-check", "assets"),
    ("PUT", f"/api/assets/{NOBODY}", "description"),
    ("DELETE", "/api/assets", "ids"),
    ("POST", "/api/trash/restore/assets", "ids"),
    ("POST", "/api/search/metadata", "id"),
    ("POST", "/api/api-keys", "permissions"),
    ("PUT", f"/api/api-keys/{NOBODY}", "permissions"),
    ("POST", "/api/auth/login", "email"),
    ("POST", "/api/download/info", "assetIds"),
    ("POST", "/api/download/archive", "assetIds"),
]
DEPTHS = [400, 950, 970, 980, 990, 5000, 100_000]


@pytest.mark.parametrize("depth", [65, 400, 960, 5000])
def test_deep_metadata_is_refused_and_spoils_nothing(client: httpx.Client, depth: int) -> None:
    content = photo()

    answer = upload(client, content, fields={"metadata": '{"a":' * depth + "1" + "}" * depth})

    assert answer.status_code == 400
    assert "metadata" in answer.json()["message"]
    _assert_all_is_shown(client, content, [])


def test_metadata_that_is_deep_already_hinders_nobody(service: Service, client: httpx.Client) -> None:
    """As an earlier version took it in."""
    content = photo()
    asset = uploaded(client, content)
    kept = '{"a":' * 990 + "1" + "}" * 990

    async def keep(catalog: Catalog) -> None:
        async with catalog.engine.begin() as connection:
            statement = sa.text("UPDATE asset SET metadata = :kept WHERE checksum = :checksum")
            await connection.execute(statement, {"kept": kept, "checksum": hashlib.sha1(content).digest()})

    service.people.call(keep)

    _assert_all_is_shown(client, content, [asset])
    assert client.get(f"/api/assets/{asset}/metadata").status_code == 200


@pytest.mark.parametrize(("method", "path", "field"), ROUTES)
def test_a_deep_body_is_refused_or_ignored(client: httpx.Client, method: str, path: str, field: str) -> None:
    for depth in DEPTHS:
        unended, array, members = "[" * depth, "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth
        assert client.request(method, path, content=unended, headers=JSON).status_code == 400
        for deep in (array, members):
            for body in (deep, f'{{"{field}": {deep}}}'):
                answer = client.request(method, path, content=body, headers=JSON)
                assert answer.status_code < 500, f"{depth}: {body[:20]} {answer.text}"


def _assert_all_is_shown(client: httpx.Client, content: bytes, ids: list[str]) -> None:
    checksum = hashlib.sha1(content).hexdigest()
    listed = client.get("/api/assets")
    found = client.post("/api/search/metadata", json={})
    checked = client.post("/api/assets/bulk-upload-check", json={"assets": [{"id": "1", "checksum": checksum}]})
    planned = client.post("/api/download/info", json={"assetIds": ids})
    assert [asset["id"] for asset in listed.json()["items"]] == ids
    assert [asset["id"] for asset in found.json()["assets"]["items"]] == ids
    assert [result.get("assetId") for result in checked.json()["results"]] == (ids or [None])
    assert [asset for part in planned.json()["archives"] for asset in part["assetIds"]] == ids
