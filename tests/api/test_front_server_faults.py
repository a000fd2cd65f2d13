"""Who is sent to the files of a front server, which names they may have, and what a client gets when it can not send them."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa

from app.catalog.catalog import Catalog
from app.catalog.schema.tables import file as file_table
from app.storage.key import Key
from app.storage.service import StorageService
from tests.api.consistency import open_engine
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.caddy import Caddy
from tests.real.foreign_files import ForeignAsset, ForeignTree
from tests.real.front_server import (
    SECRET,
    SETTINGS,
    create_offloading_caddy,
    create_offloading_lighttpd,
    create_offloading_nginx,
)
from tests.real.http_raw import fetch
from tests.real.lighttpd import Lighttpd
from tests.real.metrics import MetricsClient
from tests.real.nginx import Nginx
from tests.real.proxy import Fault, Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import UNVERIFIED, Service, free_port
from tests.real.stacks import Engine
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually

HARMLESS = ("user-agent", "accept", "accept-encoding", "x-request-id")
OF_THE_SERVER = ("server", "date", "connection", "via")
CreateFrontServer = Callable[..., Nginx | Caddy | Lighttpd]
ACCEL = "x-accel-redirect"
MEBIBYTE = 1024 * 1024
WITH_SECRET = {"x-offload-secret": SECRET}
NASTY_NAMES = (
    "50% off?.jpg",
    "a b#c+d&e=f.jpg",
    "ünïcode 写真.jpg",
    "%2e%2e%2f.jpg",
    "..;.jpg",
    "a%00b.jpg",
    "it's “ok”.jpg",
)


class Behind:
    """A client of a service through a front server on `port`, and directly."""

    def __init__(self, service: Service, port: int, stack: ExitStack) -> None:
        self._service = service
        self.account: Account = service.people.add()
        self.direct = stack.enter_context(service.client(self.account))
        self.through = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=self.account.headers, timeout=30, verify=UNVERIFIED
            )
        )

    def upload(self, data: bytes) -> str:
        return f"/api/assets/{uploaded(self.direct, data)}/original"

    def replace(self, path: str, data: bytes) -> None:
        """Put another object in the place of the asset's original."""

        async def replace(catalog: Catalog, storage: StorageService) -> None:
            asset = await catalog.assets.get(UUID(path.split("/")[3]))
            assert asset is not None
            await storage.unlink(asset.file.path)
            async with storage.write(asset.file.path) as writer:
                await writer.write(data)

        self._service.people.call_with_storage(replace)


@pytest.fixture(params=[create_offloading_nginx, create_offloading_caddy], ids=["nginx", "caddy"])
def create_front_server(request: pytest.FixtureRequest) -> CreateFrontServer:
    return request.param


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_only_a_trusted_proxy_with_the_secret_is_told_where_files_are(start_service: StartService) -> None:
    service = start_service("local", settings=SETTINGS | {"MEDIAVAULT_TRUSTED_PROXIES": "127.0.0.1"})
    account = service.people.add()
    with service.client(account) as client:
        path = f"/api/assets/{uploaded(client, data := fresh_bytes(1000))}/original"
        assert ACCEL in client.get(path, headers=WITH_SECRET).headers
        for wrong in ("", SECRET[:-1], SECRET.upper(), f"{SECRET}, {SECRET}"):
            assert client.get(path, headers={"x-offload-secret": wrong}).content == data
        twice = client.get(path, headers=[*WITH_SECRET.items(), *WITH_SECRET.items()])
        assert (ACCEL in twice.headers, twice.content) == (False, data)
        assert client.head(path, headers=WITH_SECRET).headers["content-length"] == "1000"
    stranger = httpx.HTTPTransport(local_address="127.0.0.9", verify=UNVERIFIED)
    with httpx.Client(
        base_url=service.url, transport=stranger, headers=account.headers | WITH_SECRET, trust_env=False
    ) as elsewhere:
        answer = elsewhere.get(path)
    assert (ACCEL in answer.headers, answer.content) == (False, data)


def test_files_of_another_program_are_sent_from_here(start_service: StartService) -> None:
    """Also below the media folder: that program may put a link to any file in their place."""
    service = start_service("local", settings=SETTINGS)
    account, tree = service.people.add(), ForeignTree(service.stack.media / "immich")

    async def add(catalog: Catalog) -> ForeignAsset:
        return await tree.add(catalog, account.id)

    asset = service.people.call(add)
    with service.client(account) as client:
        path = f"/api/assets/{asset.id}/original"
        eventually(lambda: client.get(path).status_code == 200, "the folder is known")
        for _ in range(2):
            answer = client.get(path, headers=WITH_SECRET)
            assert (ACCEL in answer.headers, answer.content) == (False, asset.content)
        client.request("DELETE", "/api/assets", json={"ids": [str(asset.id)], "force": True}).raise_for_status()
    shutil.rmtree(tree.root)


def test_small_answers_are_sent_from_here(start_service: StartService) -> None:
    service = start_service("local", settings=SETTINGS | {"MEDIAVAULT_OFFLOAD_MINIMUM": "1000"})
    with service.client(service.people.add()) as client:
        path = f"/api/assets/{uploaded(client, data := fresh_bytes(1000))}/original"
        for _ in range(2):  # the second time from what is in memory
            assert ACCEL in client.get(path, headers=WITH_SECRET).headers
            part = client.get(path, headers=WITH_SECRET | {"range": "bytes=1-"})
            assert (ACCEL in part.headers, part.content) == (False, data[1:])


@pytest.mark.parametrize(
    ("create", "mode"),
    [
        (create_offloading_nginx, "x-accel"),
        (create_offloading_caddy, "x-accel"),
        (create_offloading_lighttpd, "x-sendfile"),
    ],
    ids=["nginx", "caddy", "lighttpd"],
)
def test_the_service_sends_no_byte(
    create: CreateFrontServer, mode: str, start_service: StartService, tmp_path: Path, cleanup: ExitStack
) -> None:
    metrics = MetricsClient(free_port())
    settings = SETTINGS | {"MEDIAVAULT_OFFLOAD": mode, "MEDIAVAULT_METRICS_PORT": str(metrics.port)}
    service = start_service("local", settings=settings)
    behind = Behind(service, cleanup.enter_context(create(tmp_path, service)).port, cleanup)
    path = behind.upload(data := fresh_bytes(1000))
    etag = behind.direct.head(path).headers["etag"]
    assert behind.through.get(path).content == data
    assert behind.through.get(path, headers={"range": "bytes=0-99"}).content == data[:100]
    assert behind.through.get(path, headers={"range": "bytes=-10", "if-range": etag}).content == data[-10:]
    sent = metrics.scrape()
    assert sent.sum("mediavault_sent_bytes_total", source="front_server") == 1110
    assert sent.sum("mediavault_sent_bytes_total", source="disk") == 0


async def test_a_client_reaches_no_file_by_itself(
    start_service: StartService, tmp_path: Path, cleanup: ExitStack, create_front_server: CreateFrontServer
) -> None:
    """Neither by the internal locations nor by fields that the front server replaces."""
    service = start_service("local", settings=SETTINGS)
    front_server = cleanup.enter_context(create_front_server(tmp_path, service))
    behind = Behind(service, front_server.port, cleanup)
    path = behind.upload(data := fresh_bytes(1000))
    told = behind.direct.get(path, headers=WITH_SECRET).headers[ACCEL]
    forged = [*behind.account.headers.items(), ("X-Offload-Secret", "guess"), ("X-Accel-Redirect", "/etc/passwd")]
    assert (await fetch("127.0.0.1", front_server.port, "GET", path, forged)).body == data
    for target in (told, "/mediavault-offload/store", "/mediavault-offload/local/../../../etc/passwd"):
        refused = await fetch("127.0.0.1", front_server.port, "GET", target, behind.account.headers.items())
        assert refused.status in (400, 404)
        assert data not in refused.body


def test_revoked_and_deleted_is_refused_by_the_next_request(
    start_service: StartService, tmp_path: Path, cleanup: ExitStack
) -> None:
    service = start_service("local", settings=SETTINGS)
    behind = Behind(service, cleanup.enter_context(create_offloading_nginx(tmp_path, service)).port, cleanup)
    path = behind.upload(data := fresh_bytes(1000))
    assert [behind.through.get(path).content for _ in range(3)] == [data] * 3
    other = service.people.add_key(behind.account.id)
    assert behind.through.get(path, headers={"x-api-key": service.people.add().key}).status_code == 404
    deletion = {"ids": [path.split("/")[3]], "force": True}
    behind.direct.request("DELETE", "/api/assets", json=deletion, headers={"x-api-key": other}).raise_for_status()
    assert behind.through.get(path).json()["statusCode"] == 404


@pytest.mark.parametrize("engine", ["local", "s3"])
def test_any_name_of_a_file(
    engine: Engine,
    start_service: StartService,
    tmp_path: Path,
    cleanup: ExitStack,
    create_front_server: CreateFrontServer,
) -> None:
    """Files that another program named, as in a library that was taken over."""
    service = start_service(engine, settings=SETTINGS)
    behind = Behind(service, cleanup.enter_context(create_front_server(tmp_path, service)).port, cleanup)
    _assert_any_name(service, behind, ACCEL)


def test_any_name_of_a_file_by_its_path(start_service: StartService, tmp_path: Path, cleanup: ExitStack) -> None:
    service = start_service("local", settings=SETTINGS | {"MEDIAVAULT_OFFLOAD": "x-sendfile"})
    lighttpd = cleanup.enter_context(create_offloading_lighttpd(tmp_path, service))
    _assert_any_name(service, Behind(service, lighttpd.port, cleanup), "x-sendfile")


def _assert_any_name(service: Service, behind: Behind, field: str) -> None:
    for name in NASTY_NAMES:
        path = behind.upload(data := fresh_bytes(1000))
        _rename(service, UUID(path.split("/")[3]), name)
        assert behind.through.get(path).content == data, name
        assert behind.through.get(path, headers={"range": "bytes=1-9"}).content == data[1:10], name
        assert field in behind.direct.get(path, headers=WITH_SECRET).headers, name


def _rename(service: Service, asset_id: UUID, name: str) -> None:
    """Rename the asset's original, in storage and catalogue, before anybody has asked for it."""

    async def rename(catalog: Catalog, storage: StorageService) -> None:
        asset = await catalog.assets.get(asset_id)
        assert asset is not None
        renamed = storage.managed_path(Key(f"library/{secrets.token_hex(4)}/{name}"))
        await storage.rename(asset.file.path, renamed)
        engine = open_engine(service.stack.db_url)
        with engine.begin() as connection:
            connection.execute(sa.update(file_table).where(file_table.c.id == asset.file.id).values(path=renamed))
        engine.dispose()

    service.people.call_with_storage(rename)


def test_what_it_can_not_open_comes_from_the_service(
    start_service: StartService, tmp_path: Path, cleanup: ExitStack, create_front_server: CreateFrontServer
) -> None:
    """With the same fields, each once."""
    service = start_service("local", settings=SETTINGS)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    front_server = cleanup.enter_context(create_front_server(tmp_path, service, falls_back=True, media=elsewhere))
    behind = Behind(service, front_server.port, cleanup)
    path = f"{behind.upload(data := fresh_bytes(MEBIBYTE))}?c=1"
    for fields in (
        {},
        {"range": "bytes=5-99"},
        {"range": "bytes=5-99", "if-range": behind.direct.head(path).headers["etag"]},
    ):
        ours, theirs = (
            each.get(path, headers={"x-request-id": "same"} | fields) for each in (behind.direct, behind.through)
        )
        assert theirs.content == ours.content
        assert _list_fields(theirs) == _list_fields(ours)
    assert ours.content == data[5:100]


@pytest.fixture
def store(seaweedfs: SeaweedFS, cleanup: ExitStack) -> Proxy:
    """Between the front server and the store."""
    return cleanup.enter_context(Proxy(seaweedfs.port))


@pytest.fixture
def from_store(
    start_service: StartService,
    store: Proxy,
    tmp_path: Path,
    cleanup: ExitStack,
    create_front_server: CreateFrontServer,
) -> Behind:
    service = start_service("s3", database="sqlite", settings=SETTINGS)
    front_server = create_front_server(tmp_path, service, falls_back=True, store_port=store.port)
    behind = Behind(service, cleanup.enter_context(front_server).port, cleanup)
    cleanup.callback(lambda: _assert_no_link_in(service.log_path, *tmp_path.glob("*.log"), *tmp_path.glob("*.out")))
    return behind


def test_a_store_that_refuses_it_is_read_by_the_service(from_store: Behind, store: Proxy) -> None:
    path = from_store.upload(data := fresh_bytes(MEBIBYTE))
    expected = _list_fields(from_store.direct.get(path, headers={"x-request-id": "same"}))
    for status in (301, 400, 403, 404, 412, 500, 503):
        store.faults.append(fault := Fault(status=status, times=1))
        answer = from_store.through.get(path, headers={"x-request-id": "same"})
        assert (answer.content, _list_fields(answer), fault.seen) == (data, expected, 1), status
    store.faults.append(Fault(lose_answer=True, times=1))
    assert from_store.through.get(path).content == data


def test_a_store_that_fails_in_the_middle_cuts_the_connection(from_store: Behind, store: Proxy) -> None:
    path = from_store.upload(fresh_bytes(4 * MEBIBYTE))
    store.faults.append(Fault(cut_after=MEBIBYTE, times=1))
    with pytest.raises(httpx.RemoteProtocolError):
        from_store.through.get(path)


def test_the_store_is_asked_for_one_version_and_told_nothing_of_the_client(from_store: Behind, store: Proxy) -> None:
    path = from_store.upload(data := fresh_bytes(1000))
    answer = from_store.through.get(path, headers={"cookie": "a=b", "range": "bytes=0-9", "x-amz-meta-a": "b"})
    assert answer.content == data[:10]
    (asked,) = store.requests
    assert {"host", "range", "if-match"} <= asked.headers.keys() <= {"host", "range", "if-match", *HARMLESS}
    assert (asked.query["X-Amz-Expires"], asked.headers["range"]) == ("60", "bytes=0-9")


def test_who_is_redirected_to_the_store_is_so_always(start_service: StartService) -> None:
    """Also after a request that is not redirected."""
    service = start_service("s3", database="sqlite", settings=SETTINGS | {"S3_DELIVERY": "redirect"})
    with service.client(service.people.add()) as client:
        path = f"/api/assets/{uploaded(client, fresh_bytes(1000))}/original"
        etag = client.head(path).headers["etag"]
        part = client.get(path, headers=WITH_SECRET | {"range": "bytes=0-9", "if-range": etag})
        assert (part.status_code, len(part.content)) == (206, 10)
        assert client.get(path, headers=WITH_SECRET).status_code == 302


def test_what_the_cache_is_for_is_sent_from_here(start_service: StartService, tmp_path: Path) -> None:
    cache = {"MEDIAVAULT_CACHE_FOLDER": str(tmp_path / "cache"), "MEDIAVAULT_CACHE_ORIGINALS": "always"}
    service = start_service("s3", database="sqlite", settings=SETTINGS | cache)
    with service.client(service.people.add()) as client:
        path = f"/api/assets/{uploaded(client, data := fresh_bytes(1000))}/original"
        for _ in range(2):
            answer = client.get(path, headers=WITH_SECRET)
            assert (ACCEL in answer.headers, answer.content) == (False, data)


def test_another_object_in_its_place_is_not_sent(from_store: Behind) -> None:
    """Although the link is still valid: `If-Match` names the version that the service has seen."""
    path = from_store.upload(data := fresh_bytes(1000))
    assert from_store.through.get(path).content == data
    from_store.replace(path, fresh_bytes(999))
    assert from_store.through.get(path).json()["statusCode"] == 500
    from_store.replace(path, data)
    assert from_store.through.get(path).content == data


def _list_fields(answer: httpx.Response) -> list[tuple[str, str]]:
    return sorted(item for item in answer.headers.multi_items() if item[0] not in OF_THE_SERVER)


def _assert_no_link_in(*logs: Path) -> None:
    for log in logs:
        assert "X-Amz-Signature" not in log.read_text(errors="replace"), log
