"""A real browser shows pages of other origins, which upload by tus-js-client and read: what works and what the browser refuses, by the
origins that are configured."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.browser import Browser
from tests.real.npm import npm_packages
from tests.real.service import ROOT, Service
from tests.real.uploads import FIELDS

PASSWORD = "a long enough password"
TUS_CLIENT = ROOT / "tests/real/tus_client"
PAGE = b"<!doctype html><title>A gallery elsewhere</title><script src=/tus.js></script>"
SIZE = 150_000

UPLOAD = """
const bytes = new Uint8Array(SIZE).map((_, at) => at * SEED >> 3);
return await new Promise((resolve) => {
  const upload = new tus.Upload(new Blob([bytes]), {
    endpoint: SERVICE + "/api/uploads", chunkSize: 60000, retryDelays: null, storeFingerprintForResuming: false,
    headers: {"x-api-key": KEY}, metadata: METADATA,
    onError: (error) => resolve({error: String(error)}), onSuccess: () => resolve({url: upload.url}),
  });
  upload.start();
});
"""
READ = """
try {
  const answer = await fetch(SERVICE + "/api/assets", {credentials: CREDENTIALS, headers: CREDENTIALS == "omit" ? {"x-api-key": KEY} : {}});
  return {status: answer.status, count: (await answer.json()).items?.length};
} catch (error) { return {error: String(error)}; }
"""
SIGN_IN = """
const body = JSON.stringify({email: EMAIL, password: PASSWORD});
const answer = await fetch("/api/auth/login", {method: "POST", body, headers: {"content-type": "application/json"}});
return answer.status;
"""


@pytest.fixture(scope="module")
def origins() -> Iterator[tuple[str, str]]:
    """Two origins with the same page."""
    script = (npm_packages(TUS_CLIENT, "tus-js-client") / "tus-js-client/dist/tus.min.js").read_bytes()

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that the base class calls
            body, kind = (script, "text/javascript") if self.path == "/tus.js" else (PAGE, "text/html")
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """No line for each request."""

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Pages) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    first, second = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    yield first, second
    for server in servers:
        server.shutdown()
        server.server_close()


class Visitor:
    """Runs scripts on pages of other origins, for one account."""

    def __init__(self, browser: Browser, service: Service, account: Account) -> None:
        self._browser = browser
        self._service = service
        self._account = account
        self._uploads = 0

    async def upload(self, origin: str) -> dict[str, Any]:
        self._uploads += 1
        metadata = {"filename": "photo.jpg", **FIELDS}
        return await self._run(origin, UPLOAD, SIZE=SIZE, SEED=self._uploads, METADATA=metadata)

    async def read(self, origin: str, credentials: str) -> dict[str, Any]:
        return await self._run(origin, READ, CREDENTIALS=credentials)

    async def sign_in(self) -> None:
        status = await self._run(self._service.url, SIGN_IN, EMAIL=self._account.email, PASSWORD=PASSWORD)
        assert status == 201

    async def _run(self, origin: str, script: str, **values: Any) -> Any:
        values |= {"SERVICE": self._service.url, "KEY": self._account.key}
        constants = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        return await self._browser.run(f"{origin}/livez" if origin == self._service.url else origin, constants + script)


def assert_stored(service: Service, account: Account, count: int) -> None:
    with service.client(account) as client:
        items = client.get("/api/assets").json()["items"]
        assert len(items) == count
        stored = {hashlib.sha1(client.get(f"/api/assets/{asset['id']}/original").content).digest() for asset in items}
    sent = (bytes((at * number >> 3) & 255 for at in range(SIZE)) for number in range(1, count + 1))
    assert stored == {hashlib.sha1(data).digest() for data in sent}


async def assert_refused(visitor: Visitor, origin: str) -> None:
    """The browser keeps the page of this origin from everything."""
    assert "error" in await visitor.upload(origin)
    for credentials in ("omit", "include"):
        assert "error" in await visitor.read(origin, credentials)


async def test_pages_of_a_named_origin_upload_and_read_and_no_others_do(
    start_service: StartService, origins: tuple[str, str]
) -> None:
    named, stranger = origins
    service = start_service("local", settings={"MEDIAVAULT_CORS_ORIGINS": named})
    account = service.people.add(password=PASSWORD)
    closed = start_service("local")  # without the setting
    nobody = closed.people.add(password=PASSWORD)
    async with Browser() as browser:
        await assert_refused(Visitor(browser, closed, nobody), named)
        visitor = Visitor(browser, service, account)
        assert (await visitor.upload(named))["url"].startswith(f"{service.url}/api/uploads/")
        assert await visitor.read(named, "omit") == {"status": 200, "count": 1}
        assert await visitor.read(named, "include") == {"status": 401}
        await visitor.sign_in()
        assert await visitor.read(named, "include") == {"status": 200, "count": 1}
        await assert_refused(visitor, stranger)
    assert_stored(service, account, 1)
    assert_stored(closed, nobody, 0)


async def test_pages_of_all_origins_upload_with_a_key_and_without_cookies(
    start_service: StartService, origins: tuple[str, str]
) -> None:
    service = start_service("s3", settings={"MEDIAVAULT_CORS_ORIGINS": "*"})
    account = service.people.add(password=PASSWORD)
    async with Browser() as browser:
        visitor = Visitor(browser, service, account)
        for origin in origins:
            assert "url" in await visitor.upload(origin)
        assert await visitor.read(origins[0], "omit") == {"status": 200, "count": 2}
        await visitor.sign_in()
        assert "error" in await visitor.read(origins[0], "include")
    assert_stored(service, account, 2)
