"""Secrets never appear in the logs, wherever a request carries them and whatever its response is."""

from __future__ import annotations

import secrets

import pytest

from tests.api.start_service import StartService
from tests.real.secrets import find_leaks, record_secret
from tests.real.service import Service

PLACES = [
    "x-api-key",
    "x-immich-user-token",
    "x-immich-session-token",
    "authorization",
    "cookie",
    "apiKey",
    "sessionKey",
]
TARGETS = [
    "/api/users/me",
    "/api/assets/00000000-0000-4000-8000-000000000000/original",
    "/api/no-such-route",
    "/api/assets",
]


@pytest.fixture(params=["console", "json"])
def talkative(request: pytest.FixtureRequest, start_service: StartService) -> Service:
    """A service with the most verbose log level."""
    return start_service("local", settings={"MEDIAVAULT_LOG_FORMAT": request.param, "IMMICH_LOG_LEVEL": "verbose"})


def test_no_credential_is_logged(talkative: Service) -> None:
    account = talkative.people.add(password=secrets.token_hex(12))
    sent = [account.key, record_secret(secrets.token_hex(16)), account.password or ""]
    with talkative.client() as client:
        login = client.post("/api/auth/login", json={"email": account.email, "password": account.password})
        sent.append(record_secret(login.json()["accessToken"]))
        for wrong in (f"wrong {account.password}", sent[1]):
            client.post("/api/auth/login", json={"email": account.email, "password": wrong})
        for secret in sent:
            for place in PLACES:
                headers, query = _carrying(place, secret)
                for target in TARGETS:
                    client.get(f"{target}{query}", headers=headers)
                client.post(f"/api/assets{query}", content=b"no form", headers=headers)
        client.cookies.clear()
        made = client.post(
            "/api/api-keys", json={"name": "phone", "permissions": ["all"]}, headers={"x-api-key": account.key}
        )
        sent.append(record_secret(made.json()["secret"]))
        assert client.get("/api/users/me", headers={"x-api-key": sent[-1]}).status_code == 200

    assert login.status_code == 201
    assert made.status_code == 201
    assert find_leaks(sent, [talkative.log_path]) == []


def _carrying(place: str, secret: str) -> tuple[dict[str, str], str]:
    """Headers and query string of a request that carries the secret at `place`."""
    if place == "authorization":
        return {place: f"Bearer {secret}"}, ""
    if place == "cookie":
        return {place: f"immich_access_token={secret}"}, ""
    if place in ("apiKey", "sessionKey"):
        return {}, f"?{place}={secret}"
    return {place: secret}, ""
