"""A library that is moved from the disk to S3 while the page is open: the move's progress, and the photos where they lie then, which browsers
get from the store itself."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect
from sqlalchemy import update

from app.catalog.catalog import Catalog
from app.catalog.database.engine import now
from app.catalog.schema import tables
from app.migration.source_retention import SOURCE_RETENTION
from tests.api.consistency import assert_consistent
from tests.real.accounts import Account
from tests.real.processing import wait_until_idle
from tests.real.sample_media import make_jpeg
from tests.real.service import WORKING, Service
from tests.real.stacks import Stacks
from tests.real.uploads import uploaded
from tests.real.web_page import WebPage, open_web_page


@pytest.fixture
def service(stacks: Stacks, tmp_path: Path) -> Iterator[Service]:
    """Keeps its files on the disk, and can reach a bucket."""
    stack = stacks.create("s3", tmp_path / "service", database="sqlite")
    with Service(stack, program=WORKING, settings={"IMMICH_STORAGE_ENGINE": "local"}) as running:
        yield running
        assert_consistent(stack)


async def test_a_move_to_s3_is_told_and_its_photos_are_shown(
    chromium: Browser, service: Service, tmp_path: Path
) -> None:
    admin = service.people.add(is_admin=True, password=secrets.token_hex(8))
    managed, external = await asyncio.to_thread(_fill, service, admin, tmp_path / "NAS")
    service.settings |= {"IMMICH_STORAGE_ENGINE": "s3", "S3_DELIVERY": "redirect"}
    await asyncio.to_thread(service.restart)
    async with open_web_page(chromium, service.url, admin) as web_page:
        page = web_page.page
        await web_page.open("/administration")
        card = page.get_by_role("region", name="Latest move", exact=True)
        await expect(card).to_contain_text("never been moved")

        await _migrate(service, "run")
        await expect(card).to_contain_text("From disk to S3")
        await expect(card).to_contain_text("Under way")
        await expect(card).to_contain_text(re.compile(r"Verified\s*\d+ files"))
        progress = card.get_by_role("progressbar", name="Progress of the move")
        await expect(progress).to_have_attribute("value", re.compile("0.7"))
        await _migrate(service, "switch")
        await expect(card).to_contain_text(re.compile(r"In use at the target\s*\d+ files"))
        await asyncio.to_thread(service.people.call, _end_retention)
        await _migrate(service, "cleanup")
        await expect(card).to_contain_text(re.compile(r"Removed from the source\s*\d+ files"))
        await expect(card).to_contain_text("Finished")
        mounts = page.get_by_role("region", name="Media folders", exact=True)
        await expect(mounts).to_contain_text(re.compile(r"s3://\S+In order"))
        await expect(page.get_by_role("region", name="Storage", exact=True)).to_contain_text(re.compile(r"Photos\s*2"))

        await _expect_panel(web_page, managed, "In the S3 bucket", "s3://")
        await _expect_panel(web_page, external, "In a library, where it lies", str(tmp_path / "NAS"))
        await page.get_by_role("button", name="Back to the photos").click()
        await expect(page.locator(".tile-image.is-loaded")).to_have_count(2)

        store = urlsplit(service.settings["S3_ENDPOINT"]).netloc
        assert {urlsplit(url).netloc for url in web_page.foreign} == {store}, "pictures come from the store itself"
        web_page.foreign.clear()


def _fill(service: Service, admin: Account, folder: Path) -> tuple[str, str]:
    """Ids of a photo of the service and of one of a library, both with thumbnails."""
    folder.mkdir()
    (folder / "there.jpg").write_bytes(make_jpeg(600, 400))
    with service.client(admin) as client:
        managed = uploaded(client, make_jpeg(400, 600), "here.jpg")
        made = client.post(
            "/api/libraries", json={"ownerId": str(admin.id), "name": "NAS", "importPaths": [str(folder)]}
        )
        client.post(f"/api/libraries/{made.raise_for_status().json()['id']}/scan", json={}).raise_for_status()
        wait_until_idle(service, admin.key)
        found = client.post("/api/search/metadata", json={}).raise_for_status().json()["assets"]["items"]
    (external,) = {asset["id"] for asset in found} - {managed}
    return managed, external


async def _migrate(service: Service, step: str) -> None:
    done = await asyncio.to_thread(service.run, "migrate", step, "--to", "s3")
    assert done.returncode == 0, done.stdout + done.stderr


async def _end_retention(catalog: Catalog) -> None:
    """As if the files had been switched a minute earlier: `cleanup` waits for so long."""
    async with catalog.database.write() as connection:
        await connection.execute(update(tables.migration_item).values(switched_at=now() - SOURCE_RETENTION))


async def _expect_panel(web_page: WebPage, asset_id: str, place: str, path: str) -> None:
    page: Page = web_page.page
    await web_page.open(f"/photos/{asset_id}")
    await expect(page.locator(".picture-preview.is-loaded")).to_be_visible()
    await page.keyboard.press("i")
    panel = page.get_by_role("complementary", name="Details")
    await expect(panel.get_by_text(place)).to_be_visible()
    await expect(panel.get_by_text(path)).to_be_visible()
