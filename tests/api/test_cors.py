"""Cross-origin resource sharing: what pages of configured origins may do, and that all others may do nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.stacks import Stacks
from tests.real.uploads import fresh_bytes, uploaded

GALLERY = "https://gallery.example.org"
STRANGER = "https://stranger.example.net"
PASSWORD = "a long enough password"
NAMED = {"MEDIAVAULT_CORS_ORIGINS": f"{GALLERY}, http://localhost:3000"}


@pytest.fixture(scope="module")
def gallery(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that pages of `GALLERY` may use."""
    with Service(stacks.create("local", tmp_path_factory.mktemp("gallery"), tables=True), settings=NAMED) as running:
        yield running


@pytest.fixture
def person(gallery: Service) -> Account:
    return gallery.people.add(password=PASSWORD)


@pytest.fixture
def visitor(gallery: Service, person: Account) -> Iterator[httpx.Client]:
    with gallery.client(person) as client:
        yield client


def cors_fields(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


def preflight(client: httpx.Client, path: str, method: str, origin: str = GALLERY) -> httpx.Response:
    fields = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "tus-resumable,upload-offset,x-api-key",
    }
    return client.options(path, headers=fields)


def test_off_by_default(client: httpx.Client) -> None:
    assert cors_fields(preflight(client, "/api/assets", "POST")) == set()
    assert cors_fields(client.get("/api/assets", headers={"origin": GALLERY})) == set()


def test_preflights_of_a_named_origin(visitor: httpx.Client) -> None:
    for path, methods in [
        ("/api/uploads", "POST"),
        ("/api/uploads/x", "PATCH HEAD DELETE"),
        ("/api/upload/x", "PATCH HEAD DELETE"),
        ("/api/assets", "GET POST"),
        ("/api/assets/bulk-upload-check", "POST"),
        ("/api/timeline/buckets", "GET"),
    ]:
        for method in methods.split():
            answer = preflight(visitor, path, method)
            assert answer.status_code == 204
            assert answer.headers["access-control-allow-origin"] == GALLERY
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert method in answer.headers["access-control-allow-methods"].split(", ")
            assert answer.headers["access-control-allow-headers"] == "tus-resumable,upload-offset,x-api-key"
            assert answer.headers["vary"] == "Origin"
    assert "DELETE" not in preflight(visitor, "/api/assets", "DELETE").headers["access-control-allow-methods"]


def test_what_pages_elsewhere_have_no_business_with(visitor: httpx.Client) -> None:
    for path in (
        "/api/auth/login",
        "/api/api-keys",
        "/api/sessions",
        "/api/admin/users",
        "/api/users/me",
        "/livez",
        "/",
    ):
        assert cors_fields(preflight(visitor, path, "POST")) == set()
        assert cors_fields(visitor.get(path, headers={"origin": GALLERY})) == set()


def test_a_stranger_gets_nothing(visitor: httpx.Client) -> None:
    for origin in (STRANGER, "null", f"{GALLERY}.example.net", GALLERY.upper(), "http://gallery.example.org"):
        assert cors_fields(preflight(visitor, "/api/assets", "POST", origin)) == set()
        read = visitor.get("/api/assets", headers={"origin": origin})
        assert cors_fields(read) == set()
        assert "Origin" in read.headers["vary"]


def test_reads_also_from_memory_and_errors(visitor: httpx.Client) -> None:
    data = fresh_bytes(1000)
    path = f"/api/assets/{uploaded(visitor, data)}/original"
    for _ in range(3):  # the later ones are answered from memory
        answer = visitor.get(path, headers={"origin": GALLERY})
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["access-control-allow-origin"] == GALLERY
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"Location", "Upload-Offset", "Upload-Expires", "Tus-Resumable", "Content-Range"} <= set(exposed)
        assert "Origin" in visitor.get(path).headers["vary"]
        assert cors_fields(visitor.get(path)) == set()
    missing = visitor.get("/api/assets/nothing", headers={"origin": GALLERY})
    assert missing.status_code == 400
    assert missing.headers["access-control-allow-origin"] == GALLERY


def test_cookies_of_a_named_origin_alone_may_change_something(gallery: Service, person: Account) -> None:
    with gallery.client() as browser:
        login = browser.post("/api/auth/login", json={"email": person.email, "password": PASSWORD})
        assert login.status_code == 201
        body = {"assets": []}
        fields = {"sec-fetch-site": "same-site"}
        for origin, status in [(GALLERY, 200), (STRANGER, 403)]:
            answer = browser.post("/api/assets/bulk-upload-check", json=body, headers={**fields, "origin": origin})
            assert answer.status_code == status
        forged = browser.post("/api/auth/logout", headers={**fields, "origin": GALLERY})
        assert forged.status_code == 403


def test_all_origins_get_no_cookies(start_service: StartService) -> None:
    service = start_service("s3", settings={"MEDIAVAULT_CORS_ORIGINS": "*"})
    with service.client(service.people.add()) as client:
        for answer in (
            preflight(client, "/api/assets", "POST", STRANGER),
            client.get("/api/assets", headers={"origin": STRANGER}),
        ):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers
