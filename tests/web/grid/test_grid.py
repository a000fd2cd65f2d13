"""The grid in Chromium: months and days, placeholders, keys, and the states in which there is nothing to show."""

from __future__ import annotations

import asyncio
import re

import httpx
from playwright.async_api import Locator, Request, Route, expect

from tests.api.photos import photo
from tests.real.albums import Album
from tests.real.uploads import upload
from tests.real.web_page import WebPage

MOMENTS = ("2024-05-03T12:00:02Z", "2024-05-03T12:00:01Z", "2024-05-01T12:00:00Z", "2023-12-24T18:30:00Z")
LOST = re.compile("Failed to load resource")


async def test_months_and_days_are_headings_and_tiles_are_links(web_page: WebPage, client: httpx.Client) -> None:
    ids = _upload_all(client)
    await web_page.open()
    page = web_page.page
    await _tile(web_page, ids[3]).wait_for()

    assert await page.get_by_role("heading", level=2).all_inner_texts() == ["May 2024", "December 2023"]
    assert len(await page.get_by_role("heading", level=3).all()) == 3
    await expect(_tile(web_page, ids[3])).to_have_accessible_name(re.compile("^Photo, .*24.*2023, .*30"))
    assert [await link.get_attribute("href") for link in await page.locator(".tile-link").all()] == [
        f"/photos/{asset_id}" for asset_id in ids
    ]


async def test_the_months_are_asked_for_once_and_at_once(web_page: WebPage, client: httpx.Client) -> None:
    """The request does not wait for the answer that says who is signed in."""
    ids = _upload_all(client)
    requests: list[str] = []
    asked = asyncio.Event()

    def note(request: Request) -> None:
        if "/api/timeline/buckets" in request.url:
            requests.append(request.url)
            asked.set()

    async def hold(route: Route) -> None:
        await asked.wait()
        await route.continue_()

    web_page.page.on("request", note)
    await web_page.page.route("**/api/users/me", hold)
    await web_page.open(f"/photos/{ids[3]}")
    await expect(web_page.page.get_by_role("button", name="Previous")).to_be_visible()

    assert len(requests) == 1


async def test_the_keys_reach_every_tile(web_page: WebPage, client: httpx.Client) -> None:
    ids = _upload_all(client)
    await web_page.open()
    page = web_page.page
    await _tile(web_page, ids[0]).focus()

    for key, expected in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowDown", 3),
        ("ArrowUp", 0),
        ("End", 3),
        ("ArrowRight", 3),
        ("Home", 0),
        ("PageDown", 3),
        ("PageUp", 0),
    ):
        await page.keyboard.press(key)
        await expect(_tile(web_page, ids[expected])).to_be_focused()
        assert await page.locator(".tile-link[tabindex='0']").count() == 1, "one stop for the Tab key"

    await page.keyboard.press(" ")
    await expect(page.get_by_role("checkbox", checked=True)).to_have_count(1)
    await page.keyboard.press("Escape")
    await page.keyboard.press("d")
    await expect(page.get_by_role("checkbox", checked=True)).to_have_count(2)
    await page.keyboard.press("Escape")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{web_page.base}/photos/{ids[0]}")


async def test_placeholders_come_before_thumbnails(album_page: WebPage, album: Album) -> None:
    released = asyncio.Event()

    async def hold(route: Route) -> None:
        await released.wait()
        await route.continue_()

    await album_page.page.route("**/thumbnail?*", hold)
    await album_page.open()
    tile = album_page.page.locator(f".tile[data-id='{album.ids['2']}']")

    await expect(tile.locator("canvas")).to_be_visible()
    await expect(tile.locator(".tile-image.is-loaded")).to_have_count(0)
    released.set()

    await expect(tile.locator(".tile-image.is-loaded")).to_be_visible()
    broken = album_page.page.locator(f".tile[data-id='{album.ids['broken']}']")
    await expect(broken.locator(".tile-waiting")).to_be_visible()


async def test_what_another_client_changes_comes_by_itself(web_page: WebPage, client: httpx.Client) -> None:
    ids = _upload_all(client)
    await web_page.open()
    await _tile(web_page, ids[0]).wait_for()

    client.request("DELETE", "/api/assets", json={"ids": [ids[0]]})
    await web_page.set_network(offline=True)
    await expect(web_page.page.get_by_text("No connection")).to_be_visible()
    await web_page.set_network()

    await expect(_tile(web_page, ids[0])).to_be_hidden()
    await expect(_tile(web_page, ids[1])).to_be_visible()
    web_page.allowed.append(LOST)


async def test_an_empty_library_says_what_to_do(web_page: WebPage) -> None:
    await web_page.open()

    await expect(web_page.page.get_by_role("heading", name="Room for your photos")).to_be_visible()
    await expect(web_page.page.get_by_role("button", name="Choose files")).to_be_visible()


async def test_an_error_is_told_and_can_be_tried_again(web_page: WebPage, client: httpx.Client) -> None:
    ids = _upload_all(client)
    web_page.allowed.append(LOST)
    problem = {
        "status": 503,
        "content_type": "application/problem+json",
        "body": '{"message": "The catalogue is busy"}',
    }

    async def refuse(route: Route) -> None:
        await route.fulfill(**problem)

    await web_page.page.route("**/api/timeline/buckets*", refuse)
    await web_page.open()
    await expect(web_page.page.get_by_role("alert")).to_contain_text("The catalogue is busy")
    await web_page.page.unroute("**/api/timeline/buckets*")
    await web_page.context.route("**/api/timeline/bucket?*", refuse)
    await web_page.page.get_by_role("button", name="Try again").click()
    await expect(web_page.page.get_by_text("This month could not be loaded").first).to_be_visible()
    await web_page.context.unroute("**/api/timeline/bucket?*")
    await web_page.page.get_by_role("button", name="Try again").first.click()

    await expect(_tile(web_page, ids[0])).to_be_visible()


async def test_an_ended_session_leads_to_the_sign_in_and_back(web_page: WebPage, client: httpx.Client) -> None:
    ids = _upload_all(client)
    web_page.allowed.append(LOST)
    await web_page.open()
    await _tile(web_page, ids[0]).click()
    await web_page.context.clear_cookies()

    await web_page.page.keyboard.press("f")
    await expect(web_page.page.get_by_text("Your session has ended")).to_be_visible()
    await web_page.page.get_by_role("button", name="Sign in with an API key").click()
    await web_page.page.get_by_label("API key").fill(client.headers["x-api-key"])
    await web_page.page.keyboard.press("Enter")

    await expect(web_page.page).to_have_url(f"{web_page.base}/photos/{ids[0]}")
    await expect(web_page.page.get_by_role("dialog", name="Viewer")).to_be_visible()


def _upload_all(client: httpx.Client) -> list[str]:
    """Ids, newest first."""
    return [
        str(upload(client, photo(), f"{index}.jpg", fields={"fileCreatedAt": moment}).json()["id"])
        for index, moment in enumerate(MOMENTS)
    ]


def _tile(web_page: WebPage, asset_id: str) -> Locator:
    return web_page.page.locator(f".tile[data-id='{asset_id}'] .tile-link")
