"""Sign-in by the token of a printed address and by a pasted API key."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.secrets import record_secret
from tests.real.service import Service

__all__ = ["stack"]


def test_a_token_signs_in_once(service: Service, anonymous: httpx.Client, account: Account) -> None:
    token = _issue_token(service, account)

    answer = _sign_in(anonymous, "token", {"token": token})

    assert answer.status_code == 201
    assert answer.json()["userId"] == str(account.id)
    assert answer.headers["cache-control"] == "no-store"
    bearer = {"authorization": f"Bearer {answer.json()['accessToken']}"}
    cookie = next(field for field in answer.headers.get_list("set-cookie") if field.startswith("immich_access_token="))
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()
    assert anonymous.get("/api/users/me", headers=bearer).json()["id"] == str(account.id)
    again = _sign_in(anonymous, "token", {"token": token})
    assert (again.status_code, again.headers.get("set-cookie")) == (401, None)
    assert again.json()["message"] == "This sign-in address was used already, has expired or is unknown"


def test_an_expired_token_is_refused(service: Service, anonymous: httpx.Client, account: Account) -> None:
    token = _issue_token(service, account, timedelta(seconds=-1))

    assert _sign_in(anonymous, "token", {"token": token}).status_code == 401


def test_a_token_is_no_other_credential(service: Service, anonymous: httpx.Client, account: Account) -> None:
    token = _issue_token(service, account)

    for headers in ({"x-api-key": token}, {"authorization": f"Bearer {token}"}, {"x-immich-user-token": token}):
        assert anonymous.get("/api/users/me", headers=headers).status_code == 401
    assert _sign_in(anonymous, "key", {"apiKey": token}).status_code == 401
    assert _sign_in(anonymous, "token", {"token": account.key}).status_code == 401


def test_a_session_of_a_key_has_the_permissions_of_the_key(
    service: Service, anonymous: httpx.Client, client: httpx.Client, account: Account
) -> None:
    key = service.people.add_key(account.id, ("asset.read", "user.read", "apiKey.create"))
    key_id = client.get("/api/api-keys/me", headers={"x-api-key": key}).json()["id"]

    answer = _sign_in(anonymous, "key", {"apiKey": key})

    assert answer.status_code == 201
    bearer = {"authorization": f"Bearer {answer.json()['accessToken']}"}
    assert anonymous.get("/api/users/me", headers=bearer).json()["id"] == str(account.id)
    assert anonymous.get("/api/assets", headers=bearer).status_code == 200
    refused = anonymous.delete(f"/api/api-keys/{key_id}", headers=bearer)
    assert (refused.status_code, refused.json()["message"]) == (403, "Missing required permission: apiKey.delete")
    escalation = {"name": "more", "permissions": ["all"]}
    assert anonymous.post("/api/api-keys", headers=bearer, json=escalation).status_code == 400

    client.put(f"/api/api-keys/{key_id}", json={"permissions": ["user.read"]})
    assert anonymous.get("/api/assets", headers=bearer).status_code == 403

    client.delete(f"/api/api-keys/{key_id}")
    assert anonymous.get("/api/users/me", headers=bearer).status_code == 401


def test_a_session_of_a_key_ends_at_logout_and_the_key_does_not(anonymous: httpx.Client, account: Account) -> None:
    answer = _sign_in(anonymous, "key", {"apiKey": account.key})
    bearer = {"authorization": f"Bearer {answer.json()['accessToken']}"}

    assert anonymous.post("/api/auth/logout", headers=bearer).status_code == 200

    assert anonymous.get("/api/users/me", headers=bearer).status_code == 401
    assert anonymous.get("/api/users/me", headers=account.headers).status_code == 200


@pytest.mark.parametrize(("way", "body"), [("token", "token"), ("key", "apiKey")])
def test_another_sites_page_can_not_sign_in(anonymous: httpx.Client, account: Account, way: str, body: str) -> None:
    """It could otherwise have a visitor upload into the attacker's account."""
    for sender in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
    ):
        answer = anonymous.post(f"/api/auth/sign-in-{way}", json={body: account.key}, headers=sender)

        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(("way", "body"), [("token", "token"), ("key", "apiKey")])
def test_guessing_is_stopped_and_tells_nothing(start_service: StartService, way: str, body: str) -> None:
    service = start_service("local")
    account = service.people.add()
    right = _issue_token(service, account) if way == "token" else account.key
    with service.client() as client:
        guesses = [_sign_in(client, way, {body: secrets.token_hex(32)}) for _ in range(11)]
        stopped = _sign_in(client, way, {body: right})

    assert [answer.status_code for answer in guesses] == [401] * 10 + [429]
    assert stopped.status_code == 429
    assert 0 < int(stopped.headers["retry-after"]) <= 15 * 60


@pytest.mark.parametrize("value", ["", "x" * 129, 5, None])
@pytest.mark.parametrize(("way", "body"), [("token", "token"), ("key", "apiKey")])
def test_what_can_be_no_secret_is_a_bad_request(anonymous: httpx.Client, way: str, body: str, value: object) -> None:
    answer = anonymous.post(f"/api/auth/sign-in-{way}", json={body: value})

    assert answer.status_code == 400
    assert body in answer.json()["message"]
    assert "x" * 129 not in answer.text


def _issue_token(service: Service, account: Account, lifetime: timedelta = timedelta(minutes=10)) -> str:
    """A sign-in token of the account, as `serve --first-run` makes it."""
    token = record_secret(secrets.token_hex(32))
    digest, expires_at = hashlib.sha256(token.encode()).digest(), datetime.now(UTC) + lifetime
    user_id: UUID = account.id
    service.people.call(lambda catalog: catalog.sign_in_tokens.create(user_id, digest, expires_at))
    return token


def _sign_in(client: httpx.Client, way: str, body: dict[str, str]) -> httpx.Response:
    """Without filling the client's cookie jar."""
    answer = client.post(f"/api/auth/sign-in-{way}", json=body)
    client.cookies.clear()
    if answer.status_code == 201:
        record_secret(answer.json()["accessToken"])
    return answer
