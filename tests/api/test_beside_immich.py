"""mediavault and Immich behind one proxy, with the files of `docs/beside-immich.md`: who answers what. A stand-in plays Immich."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from app.api.authentication.credentials import SESSION_COOKIE, hash_secret
from app.catalog.schema.import_records import ImportedSession
from app.catalog.schema.records import FileKind
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.caddy import Caddy
from tests.real.derivatives import store_derivative
from tests.real.immich_server import ANSWERED_BY, CONTENT, ImmichServer
from tests.real.nginx import Nginx
from tests.real.sample_media import make_jpeg, make_video
from tests.real.sdk_reader import read_with_sdk
from tests.real.service import Service
from tests.real.uploads import uploaded

DOCUMENT = Path(__file__).parents[2] / "docs/beside-immich.md"


def read_configuration(language: str, mediavault_port: int) -> str:
    """The file in this language, with this port of mediavault."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    assert "127.0.0.1:2284" in found[1]
    return found[1].replace("127.0.0.1:2284", f"127.0.0.1:{mediavault_port}")


@pytest.fixture
def service(start_service: StartService) -> Service:
    settings = {"MEDIAVAULT_TRUSTED_PROXIES": "127.0.0.1", "MEDIAVAULT_IMMICH_SESSIONS": "true"}
    return start_service("local", settings=settings)


@pytest.fixture
def account(service: Service) -> Account:
    return service.people.add()


@pytest.fixture
def immich() -> Iterator[ImmichServer]:
    with ImmichServer() as running:
        yield running


@pytest.fixture
def nginx(service: Service, immich: ImmichServer, tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path, immich.port, servers=read_configuration("nginx", service.port)) as running:
        yield running


@pytest.fixture
def caddy(service: Service, immich: ImmichServer, tmp_path: Path) -> Iterator[Caddy]:
    site = read_configuration("caddyfile", service.port).replace("127.0.0.1:2283", f"127.0.0.1:{immich.port}")
    with Caddy(tmp_path, site) as running:
        yield running


@pytest.fixture
def client(nginx: Nginx, account: Account) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{nginx.port}", headers=account.headers, timeout=30) as made:
        yield made


def test_the_client_library_gets_files_of_ours_and_all_else_of_immich(
    service: Service, immich: ImmichServer, nginx: Nginx, account: Account, tmp_path: Path
) -> None:
    photo = make_jpeg()
    with service.client(account) as direct:
        photo_id, video_id = uploaded(direct, photo), uploaded(direct, make_video(tmp_path), "film.mp4")
        shown = {"thumbnail": b"small", "preview": b"larger"}
        for name, data in shown.items():
            store_derivative(service, photo_id, FileKind(name), data)
        playable = b"an MP4"
        store_derivative(service, video_id, FileKind.ENCODED_VIDEO, playable)
        ids = {"assetIds": [photo_id, video_id]}
        archive = direct.post("/api/download/archive", json=ids).content
        sizes = direct.post("/api/download/info", json=ids).json()

    told = read_with_sdk(f"http://127.0.0.1:{nginx.port}", account.key, photo_id, video_id)

    assert told["info"] == {"answeredBy": "immich", "path": f"/api/assets/{photo_id}"}
    expected = {"original": photo, **shown, "playback": playable, "archive": archive}
    assert {name: told[name] for name in expected} == {
        name: hashlib.sha1(content).hexdigest() for name, content in expected.items()
    }
    assert told["sizes"] == sizes
    assert {request[1] for request in immich.requests} == {f"/api/assets/{photo_id}"}
    assert zipfile.ZipFile(io.BytesIO(archive)).testzip() is None


def test_ranges_and_conditions_are_ours(client: httpx.Client, service: Service, account: Account) -> None:
    photo = make_jpeg(640, 480)
    with service.client(account) as direct:
        address = f"/api/assets/{uploaded(direct, photo)}/original"
    part = client.get(address, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, photo[10:20])
    assert client.get(address, headers={"if-none-match": part.headers["etag"]}).status_code == 304
    assert client.get(address, headers={"range": f"bytes={len(photo)}-"}).status_code == 416
    assert client.head(address).headers["content-length"] == str(len(photo))


def test_immich_answers_what_we_cannot(client: httpx.Client, immich: ImmichServer, service: Service) -> None:
    new = f"/api/assets/{uuid4()}"
    for kind in ("original", "thumbnail?size=preview", "video/playback"):
        answer = client.get(f"{new}/{kind}", headers={"range": "bytes=0-"})
        assert (answer.headers[ANSWERED_BY], answer.content) == ("immich", CONTENT)
    ids = {"assetIds": [str(uuid4())]}
    for path in ("/api/download/archive", "/api/download/info"):
        assert client.post(path, json=ids).headers[ANSWERED_BY] == "immich"
        assert json.loads(immich.requests[-1][2]) == ids, "the body is sent once more"
    stranger = client.get(f"{new}/original", headers={"x-api-key": "of Immich only"})
    assert stranger.headers[ANSWERED_BY] == "immich"


def test_immich_answers_for_keys_and_methods_that_are_its_own(
    client: httpx.Client, immich: ImmichServer, service: Service, account: Account
) -> None:
    with service.client(account) as direct:
        address = f"/api/assets/{uploaded(direct, make_jpeg())}"
    assert ANSWERED_BY not in client.get(f"{address}/original").headers
    with httpx.Client(base_url=client.base_url) as anonymous:
        shared = anonymous.get(f"{address}/original", params={"key": "shared"})
    assert shared.headers[ANSWERED_BY] == "immich"
    for method, path in (("PUT", f"{address}/original"), ("DELETE", "/api/assets"), ("POST", "/api/assets")):
        assert client.request(method, path, json={"ids": ["x"]}).headers[ANSWERED_BY] == "immich"
        assert immich.requests[-1] == (method, path, b'{"ids":["x"]}'), "it was asked once"
    assert ANSWERED_BY not in client.get(f"{address}/original").headers, "nothing of ours was replaced"


def test_a_login_at_immich_gets_files_of_ours_and_locked_ones_of_immich(
    nginx: Nginx, service: Service, account: Account
) -> None:
    token, moment = "Immich0Token", datetime.now(UTC)
    login = ImportedSession(uuid4(), account.id, hash_secret(token), moment + timedelta(hours=1), moment, "Web")
    service.people.call(lambda catalog: catalog.immich_sessions.replace_all([login]))
    photo = make_jpeg()
    with service.client(account) as direct:
        shown, locked = (f"/api/assets/{uploaded(direct, each)}" for each in (photo, make_jpeg(640, 480)))
        assert direct.put(locked, json={"visibility": "locked"}).status_code == 200
    cookies = {SESSION_COOKIE: token}
    with httpx.Client(base_url=f"http://127.0.0.1:{nginx.port}", cookies=cookies, timeout=30) as person:
        original = person.get(f"{shown}/original", headers={"range": "bytes=0-9"})
        assert (original.status_code, original.content, ANSWERED_BY in original.headers) == (206, photo[:10], False)
        for path in (f"{locked}/original", f"{locked}/thumbnail", "/api/users/me"):
            assert person.get(path).headers[ANSWERED_BY] == "immich"


def test_immich_answers_while_we_are_stopped(client: httpx.Client, service: Service, account: Account) -> None:
    with service.client(account) as direct:
        address = f"/api/assets/{uploaded(direct, make_jpeg())}/original"
    service.stop()
    answer = client.get(address)
    assert (answer.headers[ANSWERED_BY], answer.content) == ("immich", CONTENT)
    service.start()
    assert ANSWERED_BY not in client.get(address).headers


def test_caddy_sends_the_same_requests_to_the_same_side(
    caddy: Caddy, immich: ImmichServer, service: Service, account: Account
) -> None:
    photo = make_jpeg(640, 480)
    with service.client(account) as direct:
        address = f"/api/assets/{uploaded(direct, photo)}/original"
    with httpx.Client(base_url=f"http://127.0.0.1:{caddy.port}", headers=account.headers, timeout=30) as client:
        part = client.get(address, headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content, ANSWERED_BY in part.headers) == (206, photo[10:20], False)
        assert client.get(address, headers={"if-none-match": part.headers["etag"]}).status_code == 304
        for method, path, body in (
            ("GET", f"/api/assets/{uuid4()}/original", b""),
            ("GET", "/api/download/archives/of-immich/photos.zip", b""),
            ("PUT", address, b"new"),
            ("POST", "/api/download/archive", b"{}"),
            ("GET", "/api/albums", b""),
        ):
            assert client.request(method, path, content=body).headers[ANSWERED_BY] == "immich"
            assert immich.requests[-1] == (method, path, body)
        stranger = client.get(address, headers={"x-api-key": "of Immich only"})
        assert stranger.headers[ANSWERED_BY] == "immich"
        service.stop()
        assert client.get(address).headers[ANSWERED_BY] == "immich"
