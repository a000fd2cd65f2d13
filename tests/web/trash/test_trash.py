"""The trash on the page: restore, delete for good, empty."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from playwright.async_api import Route, expect

from tests.api.photos import photo
from tests.real.uploads import uploaded
from tests.real.web_page import WebPage


@pytest.fixture
def trashed(client: httpx.Client) -> list[str]:
    """Four photos in the trash, beside one that is not."""
    uploaded(client, photo())
    ids = [uploaded(client, photo()) for _ in range(4)]
    assert client.request("DELETE", "/api/assets", json={"ids": ids}).status_code == 204
    return ids


async def test_restore_some_delete_some_and_empty_the_rest(
    web_page: WebPage, client: httpx.Client, trashed: list[str]
) -> None:
    page = web_page.page
    tiles = page.locator(".tile")
    await web_page.open("/trash")
    await expect(tiles).to_have_count(4)
    await expect(page.get_by_text("deleted for good after 30 days")).to_be_visible()

    await page.locator(f".tile[data-id='{trashed[0]}']").click()
    await page.get_by_role("toolbar").get_by_role("button", name="Restore").click()
    await expect(tiles).to_have_count(3)
    assert client.get(f"/api/assets/{trashed[0]}").json()["isTrashed"] is False

    await page.locator(f".tile[data-id='{trashed[1]}']").click()
    await page.keyboard.press("Delete")
    dialog = page.get_by_role("dialog", name="Delete it for good?")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    assert client.get(f"/api/assets/{trashed[1]}").status_code == 200
    await page.keyboard.press("Delete")
    await dialog.get_by_role("button", name="Delete for good").click()
    await expect(tiles).to_have_count(2)
    assert client.get(f"/api/assets/{trashed[1]}").status_code == 404

    await page.get_by_role("button", name="Empty trash").click()
    await page.get_by_role("dialog").get_by_role("button", name="Empty trash").click()
    await expect(page.get_by_role("heading", name="The trash is empty")).to_be_visible()
    assert {client.get(f"/api/assets/{each}").status_code for each in trashed[1:]} == {404}
    assert client.get("/api/assets/statistics").json()["total"] == 2


async def test_restore_everything(web_page: WebPage, client: httpx.Client, trashed: list[str]) -> None:
    await web_page.open("/trash")

    await web_page.page.get_by_role("button", name="Restore all").click()

    await expect(web_page.page.get_by_role("heading", name="The trash is empty")).to_be_visible()
    assert client.get("/api/assets/statistics").json()["total"] == 1 + len(trashed)


@pytest.mark.parametrize("comes_later", [False, True], ids=["months-at-once", "months-later"])
async def test_a_page_that_was_open_before_an_update_says_what_it_cannot_show(
    web_page: WebPage, trashed: list[str], *, comes_later: bool
) -> None:
    """The script that reads the months is not there any more, nor in the browser's cache. The list of months comes before or after the page
    knows that."""
    page, is_missing = web_page.page, asyncio.Event()
    await web_page.open()
    web_page.allow_status(404)

    async def answer_list(route: Route) -> None:
        if comes_later:
            await is_missing.wait()
            await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        await route.continue_()

    async def answer_script(route: Route) -> None:
        await route.fulfill(status=404)
        if "bucket-worker" in route.request.url:
            is_missing.set()

    await page.route("**/web/**", answer_script)
    await page.route("**/api/timeline/buckets*", answer_list)

    await page.get_by_role("link", name="Trash").click()

    await expect(page.get_by_text("This month could not be loaded.")).to_be_visible()
    assert await page.locator(".tile").count() < len(trashed)
