"""Users: what they change of themselves, what administrators change of others, and that a deleted user leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.records import File
from tests.api.photos import photo
from tests.real.accounts import Account
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.uploads import uploaded
from tests.real.waiting import eventually

NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"
PASSWORD, NEW_PASSWORD = record_secret("correct horse battery"), record_secret("staple of another kind")
SUMMARY = {"id", "email", "name", "profileImagePath", "profileChangedAt", "avatarColor"}


@pytest.fixture
def admin(service: Service) -> Account:
    return service.people.add(is_admin=True)


@pytest.fixture
def admin_client(service: Service, admin: Account) -> Iterator[httpx.Client]:
    with service.client(admin) as client:
        yield client


def test_a_user_changes_name_address_and_password(client: httpx.Client, anonymous: httpx.Client) -> None:
    before = client.get("/api/users/me").json()

    changed = client.put(
        "/api/users/me", json={"name": "Änna", "email": f" New-{before['email']}", "password": PASSWORD}
    )

    assert changed.status_code == 200
    after = client.get("/api/users/me").json()
    assert after == changed.json()
    assert (after["name"], after["email"]) == ("Änna", f"new-{before['email']}")
    assert {name for name in after if after[name] != before[name]} == {"name", "email", "updatedAt"}
    assert _login(anonymous, after["email"], PASSWORD).status_code == 201


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"email": "nobody"}, 400, "e-mail"),
        ({"name": ""}, 400, "name"),
        ({"password": "short"}, 400, "password"),
        ({"email": "taken"}, 409, "taken"),
    ],
    ids=str,
)
def test_a_change_that_cannot_be_changes_nothing(
    client: httpx.Client, other_account: Account, change: dict[str, str], status: int, named: str
) -> None:
    before = client.get("/api/users/me").json()
    if change == {"email": "taken"}:
        change = {"email": other_account.email}

    answer = client.put("/api/users/me", json=change)

    assert answer.status_code == status
    assert named in answer.json()["message"]
    assert client.get("/api/users/me").json() == before


def test_a_new_password_ends_other_logins(client: httpx.Client, anonymous: httpx.Client) -> None:
    email = client.put("/api/users/me", json={"password": PASSWORD}).json()["email"]
    tokens = [_login(anonymous, email, PASSWORD).json()["accessToken"] for _ in range(3)]
    first, second, third = ({"authorization": f"Bearer {token}"} for token in tokens)
    body = {"password": PASSWORD, "newPassword": NEW_PASSWORD, "invalidateSessions": True}
    sessions = anonymous.get("/api/sessions", headers=first).json()

    assert [session["current"] for session in sessions].count(True) == 1
    assert len(sessions) == 3
    assert sessions[0].keys() >= {"id", "createdAt", "updatedAt", "expiresAt", "deviceOS", "deviceType", "appVersion"}
    other = next(
        session["id"] for session in anonymous.get("/api/sessions", headers=third).json() if session["current"]
    )
    assert anonymous.delete(f"/api/sessions/{other}", headers=first).status_code == 204
    assert anonymous.delete(f"/api/sessions/{other}", headers=first).status_code == 404
    assert anonymous.get("/api/users/me", headers=third).status_code == 401
    assert anonymous.post("/api/auth/change-password", headers=first, json={**body, "password": "x"}).status_code == 400
    assert anonymous.get("/api/users/me", headers=second).status_code == 200

    assert anonymous.post("/api/auth/change-password", headers=first, json=body).status_code == 200

    assert anonymous.get("/api/users/me", headers=second).status_code == 401
    assert [session["current"] for session in anonymous.get("/api/sessions", headers=first).json()] == [True]
    assert _login(anonymous, email, NEW_PASSWORD).status_code == 201
    assert anonymous.delete("/api/sessions", headers=first).status_code == 204
    assert len(anonymous.get("/api/sessions", headers=first).json()) == 1


def test_guesses_of_the_own_password_are_limited(client: httpx.Client) -> None:
    """Who has found a session or a key must not find out the password with it."""
    client.put("/api/users/me", json={"password": PASSWORD})
    wrong, right = ({"password": password, "newPassword": NEW_PASSWORD} for password in ("a wrong one", PASSWORD))

    answers = [client.post("/api/auth/change-password", json=wrong).status_code for _ in range(11)]
    refused = client.post("/api/auth/change-password", json=right)

    assert answers == [*[400] * 10, 429]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


def test_users_see_themselves_and_administrators_all(
    client: httpx.Client, account: Account, other_account: Account, admin_client: httpx.Client
) -> None:
    (mine,) = client.get("/api/users").json()
    everybody = {user["id"]: user for user in admin_client.get("/api/users").json()}

    assert mine.keys() == SUMMARY
    assert (mine["id"], mine["email"]) == (str(account.id), account.email)
    assert {str(account.id), str(other_account.id)} < everybody.keys()
    assert client.get(f"/api/users/{account.id}").json() == everybody[str(account.id)] == mine
    assert client.get(f"/api/users/{other_account.id}").status_code == 404
    assert admin_client.get(f"/api/users/{other_account.id}").json()["email"] == other_account.email
    assert admin_client.get(f"/api/users/{NOBODY}").status_code == 404


def test_preferences_are_told_and_not_kept(client: httpx.Client, account: Account, admin_client: httpx.Client) -> None:
    preferences = client.get("/api/users/me/preferences").json()

    assert preferences["download"] == {"archiveSize": 4 * 1024**3, "includeEmbeddedVideos": False}
    assert not any(preferences[name]["enabled"] for name in ("people", "tags", "memories", "sharedLinks"))
    assert admin_client.get(f"/api/admin/users/{account.id}/preferences").json() == preferences
    refused = client.put("/api/users/me/preferences", json={"tags": {"enabled": True}})
    assert (refused.status_code, "kept" in refused.json()["message"]) == (400, True)


def test_an_administrator_makes_and_changes_a_user(
    service: Service, admin: Account, admin_client: httpx.Client, anonymous: httpx.Client
) -> None:
    email = f"new-{admin.email}"
    body = {"email": email, "name": "Neu", "password": PASSWORD, "quotaSizeInBytes": 1000, "shouldChangePassword": True}

    made = admin_client.post("/api/admin/users", json=body)

    assert made.status_code == 201
    user = made.json()
    assert (user["email"], user["quotaSizeInBytes"], user["isAdmin"], user["status"]) == (email, 1000, False, "active")
    assert admin_client.post("/api/admin/users", json=body).status_code == 409
    token = _login(anonymous, email, PASSWORD).json()["accessToken"]
    assert anonymous.get("/api/users/me", headers={"authorization": f"Bearer {token}"}).json() == user
    address = f"/api/admin/users/{user['id']}"
    changed = admin_client.put(address, json={"quotaSizeInBytes": None, "isAdmin": True, "name": "Alt"}).json()
    assert (changed["quotaSizeInBytes"], changed["isAdmin"], changed["name"]) == (None, True, "Alt")
    assert admin_client.get(address).json() == changed
    assert [each["id"] for each in admin_client.get("/api/admin/users", params={"id": user["id"]}).json()] == [
        user["id"]
    ]
    assert admin_client.get(f"{address}/statistics").json() == {"images": 0, "videos": 0, "total": 0}
    assert [each["current"] for each in admin_client.get(f"{address}/sessions").json()] == [False]
    mine = f"/api/admin/users/{admin.id}"
    assert admin_client.put(mine, json={"isAdmin": False}).status_code == 400
    assert admin_client.request("DELETE", mine, json={"force": True}).status_code == 403
    assert admin_client.put(f"/api/admin/users/{NOBODY}", json={"name": "x"}).status_code == 404


def test_a_deleted_user_leaves_nothing_behind(
    service: Service, admin_client: httpx.Client, anonymous: httpx.Client, client: httpx.Client
) -> None:
    gone = service.people.add(password=PASSWORD)
    address = f"/api/admin/users/{gone.id}"
    kept = uploaded(client, photo())
    with service.client(gone) as theirs:
        assets = [uploaded(theirs, photo()) for _ in range(3)]
        theirs.request("DELETE", "/api/assets", json={"ids": assets[:1]})
        theirs.post("/api/users/profile-image", files={"file": ("me.jpg", photo())}).raise_for_status()
        link = theirs.post("/api/download/links", json={"assetIds": assets[1:]}).json()["url"]
        assert anonymous.get(link).status_code == 200
        assert theirs.get("/api/users/me").status_code == 200
        token = _login(anonymous, gone.email, PASSWORD).json()["accessToken"]

        assert admin_client.request("DELETE", address, json={}).status_code == 400
        assert theirs.get(f"/api/assets/{assets[1]}").status_code == 200
        deleted = admin_client.request("DELETE", address, json={"force": True})

        assert deleted.status_code == 200
        assert (deleted.json()["status"], deleted.json()["deletedAt"] is None) == ("removing", False)
        assert theirs.get("/api/users/me").status_code == 401
    assert anonymous.get(link).status_code == 404
    assert anonymous.get("/api/users/me", headers={"authorization": f"Bearer {token}"}).status_code == 401
    assert _login(anonymous, gone.email, PASSWORD).status_code == 401
    assert str(gone.id) not in {user["id"] for user in admin_client.get("/api/admin/users").json()}
    eventually(lambda: admin_client.get(address).status_code == 404, "the user's row is gone", within=30)
    assert not [file for file in service.people.call(_list_files) if file.owner_id == gone.id]
    assert client.get(f"/api/assets/{kept}/original").status_code == 200
    admin_client.post(
        "/api/admin/users", json={"email": gone.email, "name": "again", "password": PASSWORD}
    ).raise_for_status()


ADMIN_ROUTES: list[tuple[str, str, str, Any]] = [
    ("GET", "/admin/users", "adminUser.read", None),
    ("POST", "/admin/users", "adminUser.create", {"email": "x@example.org", "name": "x", "password": PASSWORD}),
    ("GET", f"/admin/users/{NOBODY}", "adminUser.read", None),
    ("PUT", f"/admin/users/{NOBODY}", "adminUser.update", {}),
    ("DELETE", f"/admin/users/{NOBODY}", "adminUser.delete", {}),
    ("GET", f"/admin/users/{NOBODY}/sessions", "adminSession.read", None),
]


def test_for_administrators_with_the_permission_only(service: Service, client: httpx.Client, admin: Account) -> None:
    key = service.people.add_key(admin.id, ("user.read",))
    for method, path, permission, body in ADMIN_ROUTES:
        refused = client.request(method, f"/api{path}", json=body)
        limited = client.request(method, f"/api{path}", json=body, headers={"x-api-key": key})

        assert (refused.status_code, refused.json()["message"]) == (403, "Forbidden: for administrators only"), path
        assert (limited.status_code, limited.json()["message"]) == (403, f"Missing required permission: {permission}")


async def _list_files(catalog: Catalog) -> list[File]:
    return [file async for file in catalog.files.iterate_all()]


def _login(client: httpx.Client, email: str, password: str) -> httpx.Response:
    answer = client.post("/api/auth/login", json={"email": email, "password": password})
    client.cookies.clear()
    return answer
