"""The reverse proxies of `docs/proxies.md`, as far as they can be had: a real nginx and a real Caddy with the
files that stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.records import FileState
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.caddy import Caddy
from tests.real.front_server import read_blocks
from tests.real.nginx import Nginx
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.uploads import FORM_TAIL, UploadConnection, fresh_bytes, upload, uploaded
from tests.real.waiting import eventually

MEBIBYTE = 1024 * 1024
PASSWORD = "correct horse battery"
CLIENT = {"host": "photos.example.org"}


@pytest.fixture
def service(start_service: StartService) -> Service:
    return start_service("local", settings={"MEDIAVAULT_TRUSTED_PROXIES": "127.0.0.1"})


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> Iterator[Nginx | Caddy]:
    if request.param == "nginx":
        proxy = Nginx(tmp_path, service.port, servers=read_blocks("nginx")[0])
    else:
        site = read_blocks("caddyfile")[0].replace("127.0.0.1:2283", f"127.0.0.1:{service.port}")
        proxy = Caddy(tmp_path, site)
    with proxy:
        yield proxy


@pytest.fixture
def account(service: Service) -> Account:
    return service.people.add(password=PASSWORD)


@pytest.fixture
def client(proxy: Nginx | Caddy, account: Account) -> Iterator[httpx.Client]:
    headers = CLIENT | account.headers
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", headers=headers, timeout=30, verify=False) as made:
        yield made


def test_ranges_and_conditions_pass(client: httpx.Client, service: Service, account: Account) -> None:
    data = fresh_bytes(3 * MEBIBYTE)
    address = f"/api/assets/{uploaded(client, data)}/original"
    with service.client(account) as direct:
        for fields in ({}, {"range": "bytes=1000000-1999999"}, {"range": "bytes=0-1,-2"}, {"range": "bytes=9999999-"}):
            ours, theirs = direct.get(address, headers=fields), client.get(address, headers=fields)
            assert theirs.status_code == ours.status_code
            hop_by_hop = {"connection", "date", "server", "via", "x-correlation-id"}
            boundary = re.compile("boundary=[^;]+")
            assert {
                name: boundary.sub("", value) for name, value in theirs.headers.items() if name not in hop_by_hop
            } == {name: boundary.sub("", value) for name, value in ours.headers.items() if name not in hop_by_hop}
            if "," not in fields.get("range", ""):
                assert theirs.content == ours.content or theirs.status_code == 416
        etag = client.head(address).headers["etag"]
    assert client.get(address, headers={"if-none-match": etag}).status_code == 304
    assert client.get(address, headers={"range": "bytes=0-9", "if-range": etag}).content == data[:10]
    assert client.get(address, headers={"if-match": '"other"'}).status_code == 412


def test_an_upload_reaches_the_service_while_it_is_sent(
    proxy: Nginx | Caddy, service: Service, account: Account
) -> None:
    """Early refusals, progress and resumption rest on that."""

    async def read_states(catalog: Catalog) -> set[FileState]:
        return {file.state async for file in catalog.files.iterate_all()}

    data = fresh_bytes(8 * MEBIBYTE)
    with UploadConnection(proxy.port) as uploading:
        uploading.begin_upload(len(data), account.headers)
        uploading.send(data[: len(data) // 2])
        eventually(lambda: service.people.call(read_states) == {FileState.WRITING}, "the service has the beginning")
        uploading.send(data[len(data) // 2 :] + FORM_TAIL)
        assert uploading.answer().status == 201


def test_a_refusal_arrives_although_the_body_was_not_read(client: httpx.Client) -> None:
    answer = upload(client, fresh_bytes(MEBIBYTE), "notes.docx")
    assert (answer.status_code, answer.json()["statusCode"]) == (400, 400)


def test_the_client_is_known(proxy: Nginx | Caddy, account: Account) -> None:
    """The proxy tells the address of its own client, and overwrites the scheme: what the client writes is not believed."""
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    guess = {"email": "nobody@example.org", "password": "wrong"}
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", headers=CLIENT, transport=transport) as stranger:
        forged = [{"x-forwarded-for": f"203.0.113.{number}", "x-forwarded-proto": "https"} for number in range(11)]
        login = stranger.post("/api/auth/login", json={"email": account.email, "password": PASSWORD}, headers=forged[0])
        statuses = [stranger.post("/api/auth/login", json=guess, headers=each).status_code for each in forged]
    assert login.status_code == 201
    record_secret(login.json()["accessToken"])
    assert "secure" not in login.headers["set-cookie"].lower()
    assert statuses == [401] * 10 + [429]
