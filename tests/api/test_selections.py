"""Requests that select assets refuse unknown conditions: an ignored condition would select more assets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.photos import photo
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.service import Service
from tests.real.uploads import uploaded

__all__ = ["stack"]

ALL = "all that there is"
BODIES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("DELETE", "/api/assets", {"ids": [ALL]}),
    ("POST", "/api/trash/restore", {}),
    ("POST", "/api/trash/restore/assets", {"ids": [ALL]}),
    ("POST", "/api/download/info", {"assetIds": [ALL]}),
    ("POST", "/api/download/archive", {"assetIds": [ALL]}),
    ("POST", "/api/download/links", {"assetIds": [ALL]}),
    ("POST", "/api/trash/empty", {}),
    ("POST", "/api/search/metadata", {}),
    ("POST", "/api/search/random", {}),
    ("POST", "/api/search/statistics", {}),
    ("POST", "/api/assets/jobs", {"assetIds": [ALL], "name": "refresh-metadata"}),
    ("DELETE", "/api/queues/videoConversion/jobs", {}),
    ("PUT", "/api/jobs/thumbnailGeneration", {"command": "start"}),
]
UNDERSTOOD = {
    "/api/assets": {"force": False},
    "/api/download/info": {"archiveSize": 1000, "userId": None, "albumId": None},
    "/api/download/archive": {"archiveName": "x", "edited": True},
    "/api/jobs/thumbnailGeneration": {"force": False},
    "/api/queues/videoConversion/jobs": {"failed": True},
}
"""Other fields that Immich's clients send."""


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    return service.people.add(is_admin=True)


@pytest.fixture(scope="module")
def client(service: Service, account: Account) -> Iterator[httpx.Client]:
    with service.client(account) as client:
        yield client


@pytest.fixture(scope="module")
def shown(client: httpx.Client) -> str:
    return uploaded(client, photo())


@pytest.mark.parametrize(("method", "path", "body"), BODIES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_body_with_an_unknown_condition_does_nothing(
    client: httpx.Client, shown: str, method: str, path: str, body: dict[str, Any]
) -> None:
    asked = {name: [shown] if value == [ALL] else value for name, value in body.items()}

    refused = client.request(method, path, json={**asked, "mood": "good", "weather": False})

    assert refused.status_code == 400, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["detail"].startswith("mood, weather: ")
    assert not client.get(f"/api/assets/{shown}").json()["isTrashed"]

    harmless = UNDERSTOOD.get(path, {}) | {"mood": None}
    assert client.request(method, path, json={**asked, **harmless}).is_success
    if path == "/api/assets":
        assert client.post("/api/trash/restore").json() == {"count": 1}


def test_an_unknown_parameter_of_a_list_is_refused(service: Service, account: Account) -> None:
    with service.client() as client:
        known = client.get("/api/assets", params={"apiKey": account.key, "visibility": "archive"})
        refused = client.get("/api/assets", params={"apiKey": account.key, "isArchived": "true"})

    assert known.status_code == 200
    assert (refused.status_code, refused.json()["detail"].partition(":")[0]) == (400, "isArchived")
