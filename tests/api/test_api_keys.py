"""API keys: users create, list, change and revoke their own."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.secrets import record_secret
from tests.real.service import Service

__all__ = ["stack"]

NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"


def test_a_new_key_works_and_shows_its_secret_once(client: httpx.Client, anonymous: httpx.Client) -> None:
    made = _create(client, ["asset.read", "user.read", "asset.read"], name="Anna's phone")

    assert UUID(made["id"])
    assert made["permissions"] == ["asset.read", "user.read"]
    assert made["apiKey"] == {name: made[name] for name in ("id", "name", "permissions", "createdAt", "updatedAt")}
    assert anonymous.get("/api/users/me", headers=_with(made)).status_code == 200
    assert anonymous.get("/api/api-keys/me", headers=_with(made)).json() == made["apiKey"]
    shown = client.get(f"/api/api-keys/{made['id']}")
    assert shown.json() == made["apiKey"]
    listed = client.get("/api/api-keys")
    assert made["apiKey"] in listed.json()
    assert made["secret"] not in shown.text + listed.text


def test_a_key_without_a_name_gets_one(client: httpx.Client) -> None:
    answer = client.post("/api/api-keys", json={"permissions": ["all"]})
    record_secret(answer.json()["secret"])

    assert answer.status_code == 201
    assert answer.json()["name"] == "API Key"


def test_what_is_given_changes_and_counts_at_once(client: httpx.Client, anonymous: httpx.Client) -> None:
    made = _create(client, ["asset.read", "user.read"])
    assert anonymous.get("/api/users/me", headers=_with(made)).status_code == 200

    renamed = client.put(f"/api/api-keys/{made['id']}", json={"name": "old phone"})
    narrowed = client.put(f"/api/api-keys/{made['id']}", json={"permissions": ["asset.read"]})

    assert (renamed.json()["name"], renamed.json()["permissions"]) == ("old phone", made["permissions"])
    assert (narrowed.json()["name"], narrowed.json()["permissions"]) == ("old phone", ["asset.read"])
    assert anonymous.get("/api/users/me", headers=_with(made)).status_code == 403
    assert anonymous.get("/api/assets", headers=_with(made)).status_code == 200


def test_a_revoked_key_stops_working_at_once(client: httpx.Client, anonymous: httpx.Client) -> None:
    made = _create(client, ["all"])
    assert anonymous.get("/api/users/me", headers=_with(made)).status_code == 200

    assert client.delete(f"/api/api-keys/{made['id']}").status_code == 204

    answer = anonymous.get("/api/users/me", headers=_with(made))
    assert answer.status_code == 401
    assert answer.json()["message"] == "Invalid API key"
    assert client.get(f"/api/api-keys/{made['id']}").status_code == 404
    assert client.delete(f"/api/api-keys/{made['id']}").status_code == 404


def test_a_key_gives_away_no_more_than_it_has(client: httpx.Client, service: Service) -> None:
    mine = _create(client, ["apiKey.create", "apiKey.update", "apiKey.read", "asset.read"])
    with service.client() as limited:
        limited.headers.update(_with(mine))
        for too_much in (["all"], ["asset.read", "asset.delete"]):
            created = limited.post("/api/api-keys", json={"name": "more", "permissions": too_much})
            changed = limited.put(f"/api/api-keys/{mine['id']}", json={"permissions": too_much})
            assert created.status_code == changed.status_code == 400
            assert created.json()["message"] == "Cannot grant permissions you do not have"
        assert _create(limited, ["asset.read"])["permissions"] == ["asset.read"]

    assert client.get(f"/api/api-keys/{mine['id']}").json()["permissions"] == mine["permissions"]
    assert len(client.get("/api/api-keys").json()) == 3


def test_a_permission_of_immich_that_means_nothing_here_opens_nothing(
    client: httpx.Client, anonymous: httpx.Client
) -> None:
    made = _create(client, ["album.read", "timeline.read"])

    answer = anonymous.get("/api/assets", headers=_with(made))

    assert answer.status_code == 403
    assert answer.json()["message"] == "Missing required permission: asset.read"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x"}, "permissions"),
        ({"name": "x", "permissions": []}, "permissions"),
        ({"name": "x", "permissions": ["asset.red"]}, "permissions"),
        ({"name": "x", "permissions": "all"}, "permissions"),
        ({"name": "a\0b", "permissions": ["all"]}, "name"),
        ({"name": "x" * 1025, "permissions": ["all"]}, "name"),
        ([], "body"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_key_that_can_not_be_made_says_why(client: httpx.Client, body: Any, field: str) -> None:
    answer = client.post("/api/api-keys", json=body)

    assert answer.status_code == 400
    assert field in answer.json()["message"]
    assert len(client.get("/api/api-keys").json()) == 1


def test_other_peoples_keys_are_not_there(client: httpx.Client, other_client: httpx.Client) -> None:
    theirs = _create(other_client, ["all"])

    for key in (theirs["id"], NOBODY):
        answers = [
            client.get(f"/api/api-keys/{key}"),
            client.put(f"/api/api-keys/{key}", json={"name": "mine"}),
            client.delete(f"/api/api-keys/{key}"),
        ]
        assert [answer.status_code for answer in answers] == [404, 404, 404]
        assert {answer.json()["message"] for answer in answers} == {"API key not found"}
    assert theirs["id"] not in client.get("/api/api-keys").text
    assert other_client.get(f"/api/api-keys/{theirs['id']}").json()["name"] == theirs["name"]


@pytest.mark.parametrize(
    ("permission", "method", "path"),
    [
        ("apiKey.read", "GET", "/api/api-keys"),
        ("apiKey.read", "GET", f"/api/api-keys/{NOBODY}"),
        ("apiKey.create", "POST", "/api/api-keys"),
        ("apiKey.update", "PUT", f"/api/api-keys/{NOBODY}"),
        ("apiKey.delete", "DELETE", f"/api/api-keys/{NOBODY}"),
        ("user.read", "GET", "/api/users/me"),
        ("server.about", "GET", "/api/server/about"),
        ("server.storage", "GET", "/api/server/storage"),
        ("server.statistics", "GET", "/api/server/statistics"),
    ],
)
def test_a_missing_permission_is_named(
    service: Service, account: Account, anonymous: httpx.Client, permission: str, method: str, path: str
) -> None:
    key = service.people.add_key(account.id, ("asset.read",))

    body = {"permissions": ["asset.read"]} if method in ("POST", "PUT") else None
    answer = anonymous.request(method, path, json=body, headers={"x-api-key": key})

    assert answer.status_code == 403
    assert answer.json()["message"] == f"Missing required permission: {permission}"


def _create(client: httpx.Client, permissions: list[str], name: str = "key") -> dict[str, Any]:
    answer = client.post("/api/api-keys", json={"name": name, "permissions": permissions})
    assert answer.status_code == 201, answer.text
    record_secret(answer.json()["secret"])
    return answer.json()


def _with(key: dict[str, Any]) -> dict[str, str]:
    return {"x-api-key": key["secret"]}
