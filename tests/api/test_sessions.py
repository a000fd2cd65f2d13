"""Login and logout with a password, as a browser and as an app do it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from http.cookies import Morsel, SimpleCookie

import httpx
import pytest

from app.api.authentication.passwords import LoginRateLimiter
from app.catalog.errors import CatalogUnavailable
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.secrets import record_secret
from tests.real.service import COMMAND, Service

__all__ = ["stack"]

PASSWORD = "correct horse battery staple"
DAY_SECONDS = 24 * 60 * 60
QUICK_HASHES = ("-m", "tests.api.quick_hash_server", *COMMAND[2:])


@pytest.fixture
def member(service: Service) -> Account:
    """A user who can log in."""
    return service.people.add(password=PASSWORD)


def test_a_login_answers_with_a_token_that_works(anonymous: httpx.Client, member: Account) -> None:
    answer = _login(anonymous, member.email.upper())

    told = answer.json()
    assert (told["userId"], told["userEmail"]) == (str(member.id), member.email)
    assert told["isAdmin"] is told["shouldChangePassword"] is False
    assert (told["name"], told["profileImagePath"]) == (member.email.partition("@")[0], "")
    assert answer.headers["cache-control"] == "no-store"
    for headers in (
        {"authorization": f"Bearer {told['accessToken']}"},
        {"x-immich-user-token": told["accessToken"]},
        {"x-immich-session-token": told["accessToken"]},
        {"cookie": f"immich_access_token={told['accessToken']}"},
    ):
        assert anonymous.get("/api/users/me", headers=headers).json()["id"] == str(member.id)
        assert anonymous.get("/api/users/me").status_code == 401
    assert anonymous.get(f"/api/users/me?sessionKey={told['accessToken']}").status_code == 200
    assert anonymous.get("/api/users/me", headers={"x-api-key": told["accessToken"]}).status_code == 401


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(anonymous: httpx.Client, member: Account) -> None:
    answer = _login(anonymous, member.email)

    cookies = _cookies(answer)
    token = cookies["immich_access_token"]
    assert token.value == answer.json()["accessToken"]
    assert (token["httponly"], token["samesite"].lower(), token["path"]) == (True, "lax", "/")
    assert int(token["max-age"]) == 365 * DAY_SECONDS
    assert cookies["immich_is_authenticated"].value == "true"
    assert not cookies["immich_is_authenticated"]["httponly"]
    assert not token["secure"]


def test_the_cookie_keeps_to_https_where_the_service_does(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_PUBLIC_URL": "https://photos.example.org"})
    member = service.people.add(password=PASSWORD)
    with service.client() as client:
        answer = _login(client, member.email)
        assert all(cookie["secure"] for cookie in _cookies(answer).values())
        assert client.get("/api/server/about", headers=member.headers).json()["versionUrl"] == (
            "https://photos.example.org/docs"
        )


def test_the_cookie_keeps_to_https_where_a_trusted_proxy_speaks_it(
    start_service: StartService, anonymous: httpx.Client, member: Account
) -> None:
    service = start_service("local", settings={"MEDIAVAULT_TRUSTED_PROXIES": "127.0.0.1"})
    guest = service.people.add(password=PASSWORD)
    https = {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"}
    fields = (https, https | {"x-forwarded-proto": "http"}, {"forwarded": "for=203.0.113.7;proto=https"}, {})
    with service.client() as client:
        answers = [_login(client, guest.email, headers=each) for each in fields]
        token = answers[0].json()["accessToken"]
        end = client.post("/api/auth/logout", headers=https | {"authorization": f"Bearer {token}"})
    for answer, secure in zip([*answers, end], [True, False, True, False, True], strict=True):
        assert {bool(cookie["secure"]) for cookie in _cookies(answer).values()} == {secure}
    strangers = _login(anonymous, member.email, headers=https)
    assert not any(cookie["secure"] for cookie in _cookies(strangers).values())


def test_a_logout_ends_the_session(anonymous: httpx.Client, member: Account) -> None:
    token = _login(anonymous, member.email).json()["accessToken"]
    other = _login(anonymous, member.email).json()["accessToken"]
    bearer = {"authorization": f"Bearer {token}"}
    assert anonymous.post("/api/auth/validateToken", headers=bearer).json() == {"authStatus": True}

    answer = anonymous.post("/api/auth/logout", headers=bearer)

    assert answer.status_code == 200
    assert answer.json() == {"successful": True, "redirectUri": "/auth/login?autoLaunch=0"}
    assert answer.headers["clear-site-data"] == '"cache"'
    assert {name for name, cookie in _cookies(answer).items() if cookie["max-age"] == "0"} == {
        "immich_access_token",
        "immich_auth_type",
        "immich_is_authenticated",
    }
    assert anonymous.post("/api/auth/validateToken", headers=bearer).status_code == 401
    assert anonymous.post("/api/auth/validateToken", headers={"authorization": f"Bearer {other}"}).status_code == 200


def test_another_sites_page_can_not_use_the_cookie(anonymous: httpx.Client, member: Account) -> None:
    token = _login(anonymous, member.email).json()["accessToken"]
    cookie = {"cookie": f"immich_access_token={token}"}

    for sender in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
    ):
        assert anonymous.post("/api/auth/logout", headers={**cookie, **sender}).status_code == 403
        login = anonymous.post("/api/auth/login", json={"email": member.email, "password": PASSWORD}, headers=sender)
        assert login.status_code == 403
        assert "set-cookie" not in login.headers
    assert anonymous.get("/api/users/me", headers=cookie).status_code == 200
    assert anonymous.post("/api/auth/logout", headers={**cookie, "sec-fetch-site": "same-origin"}).status_code == 200


def test_a_wrong_pair_does_not_tell_what_is_wrong(start_service: StartService) -> None:
    service = start_service("local")  # failed logins count, so not the one that all tests share
    wrong = [
        {"email": service.people.add(password=PASSWORD).email, "password": "something else"},
        {"email": "nobody@example.org", "password": PASSWORD},
        {"email": service.people.add().email, "password": PASSWORD},
    ]

    with service.client() as client:
        answers = [client.post("/api/auth/login", json=pair) for pair in wrong]

    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert {answer.json()["message"] for answer in answers} == {"Incorrect email or password"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "a@b.c"}, "password"),
        ({"password": "x"}, "email"),
        ({"email": "a@b.c", "password": ""}, "password"),
        ({"email": "a@b.c", "password": "x" * 1025}, "password"),
        ({"email": "a\0@b.c", "password": "x"}, "email"),
        ({"email": 5, "password": "x"}, "email"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_login_without_sense_names_the_field_and_not_the_password(
    anonymous: httpx.Client, body: dict[str, object], field: str
) -> None:
    answer = anonymous.post("/api/auth/login", json=body)

    assert answer.status_code == 400
    assert field in answer.json()["message"]
    assert "x" * 1025 not in answer.text


def test_guessing_is_stopped(start_service: StartService) -> None:
    service = start_service("local")
    member, other = service.people.add(password=PASSWORD), service.people.add(password=PASSWORD)
    with service.client() as client, _from("127.0.0.2", service) as owner:
        tries = [_try(client, member.email, f"{n}") for n in range(11)]
        right = _try(client, f" {member.email} ", PASSWORD)
        elsewhere = _try(owner, member.email, PASSWORD)
        others = _try(client, other.email, PASSWORD)

    assert [answer.status_code for answer in tries] == [401] * 10 + [429]
    assert right.status_code == 429
    assert 0 < int(right.headers["retry-after"]) <= 15 * 60
    assert (elsewhere.status_code, others.status_code) == (201, 201)


def test_guessing_for_many_accounts_is_stopped_too(start_service: StartService) -> None:
    service = start_service("local", program=QUICK_HASHES)
    with service.client() as client:
        tries = [_try(client, f"{n}@example.org", PASSWORD).status_code for n in range(101)]

    assert tries == [401] * 100 + [429]


async def test_guesses_at_the_same_time_count_each(start_service: StartService) -> None:
    service = start_service("local")
    member = service.people.add(password=PASSWORD)
    async with service.async_client() as client:
        answers = await asyncio.gather(
            *(client.post("/api/auth/login", json={"email": member.email, "password": f"{n}"}) for n in range(40))
        )
        # Those that were one too many at once were not checked, and may come again.
        while answers[-1].status_code != 429:
            answers.append(await client.post("/api/auth/login", json={"email": member.email, "password": "x"}))
            assert len(answers) < 60

    told = Counter(answer.status_code for answer in answers)
    assert told[401] == 10
    assert told.keys() <= {401, 429, 503}


async def test_logins_do_not_pile_up(start_service: StartService) -> None:
    service = start_service("local")
    members = [service.people.add(password=PASSWORD) for _ in range(40)]
    async with service.async_client() as client:
        pairs = [{"email": member.email, "password": PASSWORD} for member in members]
        answers = await asyncio.gather(*(client.post("/api/auth/login", json=pair) for pair in pairs))

    told = Counter(answer.status_code for answer in answers)
    assert told.keys() <= {201, 503}
    assert told[201] >= 8
    assert told[503] > 0
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 503)


@pytest.mark.parametrize("failure", [None, CatalogUnavailable], ids=["right", "not checked"])
async def test_only_wrong_passwords_count(failure: type[Exception] | None) -> None:
    limit = LoginRateLimiter()
    for _ in range(200):
        with suppress(CatalogUnavailable):
            async with limit.attempt("192.0.2.1", "a@example.org"):
                if failure:
                    raise failure


def _try(client: httpx.Client, email: str, password: str) -> httpx.Response:
    return client.post("/api/auth/login", json={"email": email, "password": password})


def _from(address: str, service: Service) -> httpx.Client:
    """A client whose requests come from `address`."""
    return httpx.Client(base_url=service.url, transport=httpx.HTTPTransport(local_address=address), timeout=30)


def _login(client: httpx.Client, email: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Log in without filling the client's cookie jar, so that the test decides which cookies are sent."""
    answer = client.post("/api/auth/login", json={"email": email, "password": PASSWORD}, headers=headers)
    client.cookies.clear()
    assert answer.status_code == 201, answer.text
    record_secret(answer.json()["accessToken"])
    return answer


def _cookies(answer: httpx.Response) -> dict[str, Morsel[str]]:
    jar: SimpleCookie = SimpleCookie()
    for header in answer.headers.get_list("set-cookie"):
        jar.load(header)
    return dict(jar)
