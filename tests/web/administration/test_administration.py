"""The administration on the page: what it tells, what it can do, and who may see it."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from app.catalog.catalog import Catalog
from tests.api.photos import photo
from tests.real.accessibility import list_violations
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.web_page import WebPage, open_web_page

REASON = "<img src=x onerror=alert(1)> the picture is torn"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "NAS"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.jpg").write_bytes(photo())
    return folder


async def test_what_is_stored_done_and_wrong(chromium: Browser, own_service: Service, library: Path) -> None:
    admin = own_service.people.add(is_admin=True, password=secrets.token_hex(8), quota=10_000_000)
    with own_service.client(admin) as client:
        _fail(own_service, uploaded(client, fresh_bytes(3_000_000), "torn.jpg"), REASON)
        uploaded(client, photo(), "waits.jpg")
        made = client.post(
            "/api/libraries", json={"ownerId": str(admin.id), "name": "NAS", "importPaths": [str(library)]}
        )
        assert made.status_code == 201

        async with open_web_page(chromium, own_service.url, admin) as web_page:
            page = web_page.page
            await web_page.open("/administration")

            await expect(_card(page, "Storage")).to_contain_text(re.compile(r"Originals\s*3 MB"))
            await expect(_card(page, "Users").get_by_role("row", name=admin.email.split("@")[0])).to_contain_text(
                "Quota 10 MB"
            )
            await expect(_card(page, "Media folders")).to_contain_text(re.compile(r"thumbs\s*In order"))
            await expect(_card(page, "Last backup of the catalogue")).to_contain_text("There is no backup yet.")
            await expect(_card(page, "Latest move")).to_contain_text("never been moved")
            jobs = _card(page, "Jobs")
            await expect(jobs).to_contain_text("0 under way, 1 waiting, 0 done")
            await expect(jobs).to_contain_text("1 has failed")
            await expect(jobs.locator(".failure")).to_contain_text(REASON)

            assert await list_violations(page) == []
            await page.set_viewport_size({"width": 320, "height": 568})
            assert await page.evaluate("document.querySelector('.administration').scrollWidth <= innerWidth")

            await jobs.get_by_role("button", name="Try again").click()
            await expect(jobs).to_contain_text("0 under way, 2 waiting, 0 done")
            await expect(jobs.locator(".failure")).to_have_count(0)

            libraries = _card(page, "External libraries")
            await libraries.get_by_role("button", name="Scan").click()
            await expect(libraries).to_contain_text("3 files, 3 new")
            await expect(libraries).to_contain_text("3 photos and videos")


async def test_it_says_so_while_the_service_does_not_answer(chromium: Browser, own_service: Service) -> None:
    admin = own_service.people.add(is_admin=True, password=secrets.token_hex(8))
    async with open_web_page(chromium, own_service.url, admin) as web_page:
        web_page.allowed.append(re.compile("Failed to load resource"))
        await web_page.open("/administration")
        await expect(_card(web_page.page, "Jobs")).to_contain_text("Nothing to do")

        own_service.kill()
        await expect(_card(web_page.page, "Jobs")).to_contain_text("Cannot be read")
        await expect(_card(web_page.page, "Jobs")).to_contain_text("Nothing to do")
        own_service.start()

        await expect(_card(web_page.page, "Jobs").get_by_text("Cannot be read")).to_be_hidden()


async def test_other_users_have_no_administration(web_page: WebPage) -> None:
    await web_page.open("/administration")

    await web_page.page.wait_for_url(f"{web_page.base}/")
    await expect(web_page.page.get_by_role("link", name="Administration")).to_be_hidden()


def _card(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


def _fail(service: Service, asset_id: str, reason: str) -> None:
    """As a worker that gives the asset up."""

    async def fail(catalog: Catalog) -> None:
        task, run = await catalog.tasks.get_for_asset(UUID(asset_id)), uuid4()
        assert task is not None
        assert await catalog.tasks.claim(task.id, run, timedelta(minutes=5))
        assert await catalog.tasks.fail(task.id, run, reason, None)

    service.people.call(fail)
