"""Credentials in headers, query and cookie, and the detection of cross-site requests, as tables."""

import time

import pytest

from app.api.authentication.credentials import (
    Credential,
    CredentialKind,
    find_credential,
    generate_secret,
    hash_secret,
    is_same_site,
)

SESSION, KEY, EITHER = CredentialKind.SESSION, CredentialKind.API_KEY, CredentialKind.EITHER


def scope(headers: dict[str, str] | None = None, query: str = "") -> dict:
    return {
        "type": "http",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "query_string": query.encode(),
    }


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, "", None),
        ({"x-api-key": "k"}, "", Credential("k", KEY)),
        ({}, "apiKey=k", Credential("k", KEY)),
        ({}, "a=1&sessionKey=s", Credential("s", SESSION)),
        ({}, "apiKey=", None),
        ({"x-immich-user-token": "s"}, "", Credential("s", SESSION)),
        ({"x-immich-session-token": "s"}, "", Credential("s", SESSION)),
        ({"authorization": "Bearer s"}, "", Credential("s", EITHER)),
        ({"authorization": "bearer  s"}, "", Credential("s", EITHER)),
        ({"authorization": "Basic czpz"}, "", None),
        ({"authorization": "Bearer"}, "", None),
        ({"cookie": "a=b; immich_access_token=s"}, "", Credential("s", SESSION, is_ambient=True)),
        ({"cookie": "immich_access_token=s;a=b"}, "", Credential("s", SESSION, is_ambient=True)),
        ({"cookie": "immich_access_token="}, "", None),
        ({"cookie": "immich_access_token"}, "", None),
        ({"cookie": "immich_access_token=\xe9"}, "", None),
        ({"cookie": 'immich_access_token="s"'}, "", None),
        ({"cookie": "immich_access_token=" + "s" * 129}, "", None),
        ({"cookie": "a=" + "b" * 8192 + "; immich_access_token=s"}, "", None),
        ({"cookie": "not_immich_access_token_x=s"}, "", None),
        ({"cookie": "immich_access_token=s", "x-api-key": "k"}, "", Credential("k", KEY)),
        ({"x-immich-user-token": "s", "x-api-key": "k"}, "", Credential("s", SESSION)),
    ],
)
def test_a_credential_is_found(headers: dict[str, str], query: str, expected: Credential | None) -> None:
    assert find_credential(scope(headers, query)) == expected


def test_a_long_cookie_costs_no_time() -> None:
    quoted = '"' + "\\" * 40_000 + '"'
    started = time.monotonic()

    assert find_credential(scope({"cookie": f"immich_access_token={quoted}"})) is None

    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("headers", "public_url", "unknown", "expected"),
    [
        ({"sec-fetch-site": "same-origin"}, None, False, True),
        ({"sec-fetch-site": "none"}, None, False, True),
        ({"sec-fetch-site": "cross-site"}, None, True, False),
        ({"sec-fetch-site": "same-site"}, None, True, False),
        # Sec-Fetch-Site decides; a page can not forge it, and Origin is not asked any more.
        ({"sec-fetch-site": "cross-site", "origin": "https://p.example", "host": "p.example"}, None, True, False),
        ({"origin": "https://p.example", "host": "p.example"}, None, False, True),
        ({"origin": "https://P.example:8443", "host": "p.example:8443"}, None, False, True),
        ({"origin": "https://evil.example", "host": "p.example"}, None, True, False),
        ({"origin": "null", "host": "p.example"}, None, True, False),
        ({"origin": "null"}, None, True, False),
        ({"origin": "http://["}, None, True, False),
        ({"origin": "http://[", "host": "p.example"}, "https://p.example", True, False),
        ({"origin": "https://p.example"}, "https://p.example", False, True),
        ({"origin": "http://p.example", "host": "p.example"}, "https://p.example", False, False),
        ({}, None, False, False),
        ({}, None, True, True),
    ],
)
def test_other_sites_are_told(headers: dict[str, str], public_url: str | None, unknown: bool, expected: bool) -> None:
    assert is_same_site(scope(headers), public_url, default=unknown) is expected


def test_secrets_are_long_and_differ_and_only_their_hash_is_kept() -> None:
    one, other = generate_secret(), generate_secret()
    assert one != other
    assert len(one) == 64
    assert one.isalnum()
    assert one.encode() not in hash_secret(one)
