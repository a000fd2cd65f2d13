"""Selecting on the grid, and what is done with a selection: zips by link, favourites, trash and the way back."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Locator, Route, expect

from tests.api.photos import photo
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import upload
from tests.real.web_page import WebPage, open_web_page

DAYS = ("2024-05-03", "2024-05-03", "2024-05-03", "2024-05-02", "2024-05-02", "2024-05-01")


@pytest.fixture
def photos(client: httpx.Client) -> list[tuple[str, bytes]]:
    """Id and content of photos of three days, newest first."""
    return [_upload(client, f"{index}.jpg", f"{day}T12:00:{59 - index}Z") for index, day in enumerate(DAYS)]


async def test_three_are_selected_and_come_as_a_zip(
    web_page: WebPage, photos: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    await web_page.open()
    for index in (0, 2, 5):
        await _tile(web_page, photos[index][0]).hover()
        await _tile(web_page, photos[index][0]).get_by_role("checkbox").click()
    await expect(_count(web_page)).to_have_text("3 selected")

    async with web_page.page.expect_download() as started:
        await _bar(web_page).get_by_role("button", name="Download").click()
    download = await started.value

    assert re.fullmatch(r"mediavault \d{4}-\d\d-\d\d\.zip", download.suggested_filename)
    await download.save_as(tmp_path / "photos.zip")
    assert _unzip((tmp_path / "photos.zip").read_bytes()) == {f"{index}.jpg": photos[index][1] for index in (0, 2, 5)}


async def test_more_than_one_archive_is_offered(
    web_page: WebPage, photos: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    async def ask_for_small_archives(route: Route) -> None:
        wanted: Any = route.request.post_data_json
        await route.continue_(post_data=json.dumps({**wanted, "archiveSize": 2 * len(photos[0][1])}))

    await web_page.page.route("**/api/download/info", ask_for_small_archives)
    await web_page.open()
    await _tile(web_page, photos[0][0]).wait_for()

    await web_page.page.keyboard.press("a")
    await web_page.page.keyboard.press("s")
    dialog = web_page.page.get_by_role("dialog", name="Download")
    found: dict[str, bytes] = {}
    for number in (1, 2, 3):
        async with web_page.page.expect_download() as started:
            await dialog.get_by_role("button", name=f"Download archive {number}").click()
        download = await started.value
        await download.save_as(tmp_path / f"{number}.zip")
        found |= _unzip((tmp_path / f"{number}.zip").read_bytes())

    assert found == {f"{index}.jpg": content for index, (_, content) in enumerate(photos)}


async def test_ranges_days_and_everything(web_page: WebPage, photos: list[tuple[str, bytes]]) -> None:
    ids = [asset_id for asset_id, _ in photos]
    await web_page.open()
    await _tile(web_page, ids[1]).click(modifiers=["Shift"])

    await _tile(web_page, ids[4]).click(modifiers=["Shift"])
    assert await _get_selected(web_page) == ids[1:5]

    await web_page.page.keyboard.press("Escape")
    assert await _get_selected(web_page) == []
    await expect(_bar(web_page)).to_be_hidden()

    await web_page.page.get_by_role("button", name=re.compile("^Select .*3")).first.click()
    assert await _get_selected(web_page) == ids[:3]

    await web_page.page.keyboard.press("a")
    assert await _get_selected(web_page) == ids
    await expect(_count(web_page)).to_have_text("6 selected")


async def test_nothing_is_announced_where_nothing_was_selected(web_page: WebPage) -> None:
    await web_page.page.clock.install()
    await web_page.open()
    announced = web_page.page.locator(".visually-hidden[role=status]")
    await expect(announced).to_have_text("Photos")

    await web_page.page.clock.run_for(5000)

    await expect(announced).to_have_text("Photos")


async def test_a_drag_selects_and_opens_nothing(web_page: WebPage, photos: list[tuple[str, bytes]]) -> None:
    ids = [asset_id for asset_id, _ in photos]
    await web_page.open()
    start, end = await _middle(_tile(web_page, ids[0])), await _middle(_tile(web_page, ids[2]))

    await web_page.page.mouse.move(*start)
    await web_page.page.mouse.down()
    await web_page.page.mouse.move(*end, steps=5)
    await web_page.page.mouse.up()

    await expect(_count(web_page)).to_have_text("3 selected")
    assert await _get_selected(web_page) == ids[:3]
    assert web_page.page.url == f"{web_page.base}/"


async def test_a_finger_scrolls_and_after_a_long_press_selects(
    chromium: Browser, service: Service, account: Account, photos: list[tuple[str, bytes]]
) -> None:
    ids = [asset_id for asset_id, _ in photos]
    options = {"has_touch": True, "viewport": {"width": 390, "height": 500}}
    async with open_web_page(chromium, service.url, account, options=options) as web_page:
        await web_page.open()
        start, end = await _middle(_tile(web_page, ids[0])), await _middle(_tile(web_page, ids[2]))

        await _touch(web_page, "touchStart", start)
        await _touch(web_page, "touchMove", (start[0], start[1] - 60))
        await _touch(web_page, "touchEnd")
        assert await _get_selected(web_page) == []

        await _tile(web_page, ids[0]).scroll_into_view_if_needed()
        start, end = await _middle(_tile(web_page, ids[0])), await _middle(_tile(web_page, ids[2]))
        await _touch(web_page, "touchStart", start)
        await expect(_count(web_page)).to_have_text("1 selected")
        await _touch(web_page, "touchMove", end)
        await expect(_count(web_page)).to_have_text("3 selected")
        await _touch(web_page, "touchEnd")

        assert await _get_selected(web_page) == ids[:3]
        assert web_page.page.url == f"{web_page.base}/"


async def test_a_drag_at_the_edge_moves_on_and_everything_is_also_what_is_not_loaded(
    web_page: WebPage, client: httpx.Client
) -> None:
    for year in range(1990, 2026):
        for index in range(2):
            _upload(client, f"{year}-{index}.jpg", f"{year}-05-01T12:00:0{index}Z")
    await web_page.page.set_viewport_size({"width": 600, "height": 400})
    await web_page.open()
    page = web_page.page
    start = await _middle(page.locator(".tile").first)

    await page.mouse.move(*start)
    await page.mouse.down()
    await page.mouse.move(start[0], 390, steps=5)
    await expect(_count(web_page)).to_have_text(re.compile(r"^[3-7]\d selected"))
    await page.mouse.up()
    await page.keyboard.press("Escape")

    await web_page.page.keyboard.press("a")
    await expect(_count(web_page)).to_have_text("72 selected")
    await web_page.page.keyboard.press("Delete")

    await expect(web_page.page.get_by_text("72 moved to the trash")).to_be_visible()
    assert client.get("/api/assets/statistics").json()["total"] == 0


async def test_favourites_and_trash_with_the_way_back(
    web_page: WebPage, client: httpx.Client, photos: list[tuple[str, bytes]]
) -> None:
    ids = [asset_id for asset_id, _ in photos]
    await web_page.open()
    await _tile(web_page, ids[1]).hover()
    await _tile(web_page, ids[1]).get_by_role("checkbox").click()

    await _bar(web_page).get_by_role("button", name="Favourite").click()
    await expect(web_page.page.get_by_text("Added to the favourites")).to_be_visible()
    assert [asset["id"] for asset in _list(client) if asset["isFavorite"]] == [ids[1]]
    await expect(_tile(web_page, ids[1]).locator(".badge-favorite")).to_be_attached()

    await web_page.page.keyboard.press("Delete")
    await expect(_tile(web_page, ids[1])).to_be_hidden()
    await expect(_bar(web_page)).to_be_hidden()
    assert [asset["id"] for asset in _list(client)] == [ids[0], *ids[2:]]

    await web_page.page.get_by_role("button", name="Undo").click()
    await expect(_tile(web_page, ids[1])).to_be_visible()
    assert [asset["id"] for asset in _list(client)] == ids


async def test_after_a_deletion_the_keyboard_goes_on_at_the_next_photo(
    web_page: WebPage, photos: list[tuple[str, bytes]]
) -> None:
    links = [_tile(web_page, asset_id).locator(".tile-link") for asset_id, _ in photos]
    await web_page.open()
    await links[1].focus()
    for key in (" ", "ArrowRight", " ", "Delete"):
        await web_page.page.keyboard.press(key)

    await expect(links[3]).to_be_focused()
    await web_page.page.keyboard.press("End")
    await expect(links[5]).to_be_focused()
    for key in (" ", "Delete"):
        await web_page.page.keyboard.press(key)
    await expect(links[0]).to_be_focused()


async def test_a_selection_of_which_some_were_deleted_elsewhere_can_still_be_used(
    web_page: WebPage, client: httpx.Client, photos: list[tuple[str, bytes]]
) -> None:
    ids = [asset_id for asset_id, _ in photos]
    web_page.allow_status(404)
    for key, deleted in (("s", ids[0]), ("Delete", ids[1])):
        await web_page.open()
        await _tile(web_page, ids[2]).wait_for()
        await web_page.page.keyboard.press("a")
        selected = len(await _get_selected(web_page))
        assert client.request("DELETE", "/api/assets", json={"ids": [deleted], "force": True}).status_code == 204

        await web_page.page.keyboard.press(key)

        await expect(web_page.page.get_by_text("Some of these are not here any more")).to_be_visible()
        await expect(_count(web_page)).to_have_text(f"{selected - 1} selected")
        await expect(_tile(web_page, deleted)).to_have_count(0)
    await web_page.page.keyboard.press("Delete")
    await expect(web_page.page.get_by_text("4 moved to the trash")).to_be_visible()
    assert client.get("/api/assets/statistics").json()["total"] == 0


def _upload(client: httpx.Client, name: str, moment: str) -> tuple[str, bytes]:
    content = photo()
    return upload(client, content, name, fields={"fileCreatedAt": moment}).json()["id"], content


def _list(client: httpx.Client) -> list[dict[str, Any]]:
    return client.get("/api/assets").json()["items"]


def _unzip(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _tile(web_page: WebPage, asset_id: str) -> Locator:
    return web_page.page.locator(f".tile[data-id='{asset_id}']")


def _bar(web_page: WebPage) -> Locator:
    return web_page.page.get_by_role("toolbar", name="Selection")


def _count(web_page: WebPage) -> Locator:
    return web_page.page.locator(".selection-count")


async def _touch(web_page: WebPage, kind: str, point: tuple[float, float] | None = None) -> None:
    points = [] if point is None else [{"x": point[0], "y": point[1]}]
    await web_page.devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


async def _get_selected(web_page: WebPage) -> list[str]:
    return await web_page.page.locator(".tile.is-selected").evaluate_all(
        "tiles => tiles.map((tile) => tile.dataset.id)"
    )


async def _middle(tile: Locator) -> tuple[float, float]:
    await tile.wait_for()
    box = await tile.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
