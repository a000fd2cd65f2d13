"""Uploads that are interrupted: they go on by themselves, or when the same file is chosen again, and send nothing twice that was acknowledged."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import secrets
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Request, expect

from tests.real.cutting_proxy import CuttingProxy
from tests.real.sample_media import make_video
from tests.real.service import Service
from tests.real.uploads import fresh_bytes
from tests.real.web_page import LOST_REQUEST, WebPage, open_web_page

MEBIBYTE = 1024 * 1024
CHUNK = 8 * MEBIBYTE
NAME = "Film.mp4"
SENT_AGAIN = re.compile("status of 409")
"""Chromium itself repeats a request on a connection that breaks; what had arrived makes its offset wrong."""


@pytest.fixture
def film(tmp_path: Path, *, soak: bool) -> Path:
    """A video of several chunks."""
    path = tmp_path / NAME
    path.write_bytes(make_video(tmp_path, playable=True) + fresh_bytes((300 if soak else 28) * MEBIBYTE))
    return path


@pytest.fixture
def speed(film: Path) -> int:
    """Bytes per second at which the film takes about ten seconds."""
    return film.stat().st_size // 10


async def test_an_upload_goes_on_when_the_network_is_back(
    web_page: WebPage, client: httpx.Client, film: Path, speed: int
) -> None:
    web_page.allowed.append(LOST_REQUEST)
    await web_page.open()
    await web_page.set_network(bytes_per_second=speed)
    await web_page.drop(film)
    await web_page.wait_until_sent(NAME, 0.3)

    await web_page.set_network(offline=True)
    await expect(web_page.row(NAME)).to_contain_text("Waiting for the connection")
    await web_page.set_network()

    await web_page.expect_uploads("1 uploaded")
    assert _get_checksums(client) == {_digest(film)}


async def test_an_upload_survives_connections_that_break(chromium: Browser, service: Service, film: Path) -> None:
    account = service.people.add(password=secrets.token_hex(8))
    cuts = itertools.repeat(5 * MEBIBYTE, 8)
    with CuttingProxy(service.port, cuts) as proxy:
        async with open_web_page(chromium, f"http://127.0.0.1:{proxy.port}", account) as page:
            page.allowed += [LOST_REQUEST, SENT_AGAIN]
            await page.open()
            await page.drop(film)
            await page.expect_uploads("1 uploaded")
        assert proxy.cut >= 2
    with service.client(account) as client:
        assert _get_checksums(client) == {_digest(film)}


async def test_an_upload_goes_on_after_the_server_was_killed(
    chromium: Browser, own_service: Service, film: Path, speed: int
) -> None:
    account = own_service.people.add(password=secrets.token_hex(8))
    async with open_web_page(chromium, own_service.url, account) as page:
        page.allowed.append(LOST_REQUEST)
        await page.open()
        await page.set_network(bytes_per_second=speed)
        await page.drop(film)
        await page.wait_until_sent(NAME, 0.5)

        own_service.kill()
        await expect(page.row(NAME)).to_contain_text("Waiting for the connection")
        own_service.start()

        await page.set_network()
        await page.expect_uploads("1 uploaded")
    with own_service.client(account) as client:
        assert _get_checksums(client) == {_digest(film)}


async def test_after_a_reload_the_same_file_goes_on_where_it_stopped(
    web_page: WebPage, client: httpx.Client, film: Path, speed: int
) -> None:
    await web_page.open()
    await web_page.set_network(bytes_per_second=speed)
    await web_page.drop(film)
    await web_page.wait_until_sent(NAME, 0.5)
    web_page.page.on("dialog", lambda dialog: dialog.accept())
    await web_page.open()
    upload_id = await web_page.page.evaluate("JSON.parse(localStorage['mediavault.uploads'])[0].id")
    status = client.head(f"/api/uploads/{upload_id}", headers={"Tus-Resumable": "1.0.0"})
    acknowledged = int(status.headers["upload-offset"])
    offsets: list[int] = []
    web_page.page.on("request", lambda request: _note_offset(request, offsets))

    await web_page.set_network()
    await web_page.drop(film)

    await web_page.expect_uploads("1 uploaded")
    assert acknowledged >= CHUNK
    assert offsets == list(range(acknowledged, film.stat().st_size, CHUNK))
    assert _get_checksums(client) == {_digest(film)}


async def test_pause_resume_and_cancel(web_page: WebPage, client: httpx.Client, film: Path, speed: int) -> None:
    await web_page.open()
    await web_page.set_network(bytes_per_second=speed)
    await web_page.drop(film)
    await web_page.wait_until_sent(NAME, 0.3)
    panel = web_page.page.locator(".upload-panel")

    await panel.get_by_role("button", name="Pause all").click()
    await expect(panel.get_by_role("heading")).to_have_text("Paused at 0 of 1")
    await panel.get_by_role("button", name="Resume all").click()
    await web_page.wait_until_sent(NAME, 0.4)
    await panel.get_by_role("button", name=f"Pause {NAME}").click()
    await expect(web_page.row(NAME)).to_have_attribute("data-state", "paused")
    await panel.get_by_role("button", name=f"Resume {NAME}").click()
    await web_page.wait_until_sent(NAME, 0.5)
    upload_id = await web_page.page.evaluate("JSON.parse(localStorage['mediavault.uploads'])[0].id")
    async with web_page.page.expect_response(lambda response: response.request.method == "DELETE"):
        await panel.get_by_role("button", name=f"Cancel {NAME}").click()

    await expect(web_page.row(NAME)).to_have_attribute("data-state", "cancelled")
    assert client.head(f"/api/uploads/{upload_id}", headers={"Tus-Resumable": "1.0.0"}).status_code == 410
    assert client.get("/api/assets").json()["items"] == []


def _note_offset(request: Request, offsets: list[int]) -> None:
    if request.method == "PATCH":
        offsets.append(int(request.headers["upload-offset"]))


def _get_checksums(client: httpx.Client) -> set[str]:
    return {asset["checksum"] for asset in client.get("/api/assets").json()["items"]}


def _digest(path: Path) -> str:
    return base64.b64encode(hashlib.sha1(path.read_bytes(), usedforsecurity=False).digest()).decode()
