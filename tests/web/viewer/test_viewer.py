"""The viewer, in Chromium: where it opens and leads, zoom, video, live photos, and what it tells of an asset."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from playwright.async_api import Browser, Locator, Request, Route, expect

from tests.real.albums import Album, make_described_photo
from tests.real.sample_media import make_jpeg
from tests.real.uploads import upload
from tests.real.waiting import eventually
from tests.real.web_page import LOST_REQUEST, WebPage, open_web_page


async def test_keys_lead_through_the_album_and_back_to_the_grid(album_page: WebPage, album: Album) -> None:
    page, order = album_page.page, album.order
    await album_page.open()
    await _tile(album_page, order[0]).click()
    await expect(_viewer(album_page)).to_be_visible()

    for key, expected in (
        ("ArrowRight", order[1]),
        ("ArrowRight", order[2]),
        ("ArrowLeft", order[1]),
        ("End", order[-1]),
        ("Home", order[0]),
        ("ArrowLeft", order[0]),
        ("End", order[-1]),
    ):
        await page.keyboard.press(key)
        await expect(page).to_have_url(f"{album_page.base}/photos/{expected}")

    await page.keyboard.press("Escape")
    await expect(_viewer(album_page)).to_be_hidden()
    assert page.url == f"{album_page.base}/"
    await expect(_tile(album_page, order[-1])).to_be_focused()
    await expect(_tile(album_page, order[-1])).to_be_in_viewport()


async def test_an_address_can_be_shared_reloaded_and_left(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    await album_page.open(f"/photos/{album.ids['3']}")
    await expect(page.locator(".picture-preview.is-loaded")).to_be_visible()
    await page.get_by_role("button", name="Previous").click()
    await expect(page).to_have_url(f"{album_page.base}/photos/{album.ids['2']}")

    await page.reload()
    await expect(page.locator(".picture-preview.is-loaded")).to_be_visible()
    await page.get_by_role("button", name="Back to the photos").click()

    await expect(_tile(album_page, album.ids["2"])).to_be_focused()
    assert page.url == f"{album_page.base}/"


async def test_a_viewer_that_closes_early_leads_to_its_photo_once_the_place_is_known(
    album_page: WebPage, album: Album
) -> None:
    """The page is loaded with the viewer open; what tells the place of the photo in the grid comes after the viewer has closed."""
    page, last = album_page.page, album.order[-1]
    await page.set_viewport_size({"width": 500, "height": 300})
    await album_page.open()
    await page.locator(".grid-scroller").evaluate("scroller => { scroller.scrollTop = scroller.scrollHeight; }")
    await _tile(album_page, last).click()
    for late in ("**/api/timeline/buckets?*", "**/api/timeline/bucket?*", f"**/api/assets/{last}"):
        async with _delay(album_page, late):
            await page.reload()
            await expect(_viewer(album_page)).to_be_visible()
            await page.keyboard.press("Escape")
            await expect(_viewer(album_page)).to_be_hidden()
            await expect(page).to_have_url(f"{album_page.base}/")

        await expect(_tile(album_page, last)).to_be_focused()
        await expect(_tile(album_page, last)).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(_viewer(album_page)).to_be_visible()


async def test_escape_leaves_the_viewer_only_however_fast_it_is_pressed(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    await album_page.open("/trash")
    await page.get_by_role("link", name="Photos", exact=True).click()
    await _tile(album_page, album.ids["1"]).click()
    await expect(_viewer(album_page)).to_be_visible()

    await page.evaluate(
        """() => { for (let press = 0; press < 3; press += 1) {
          document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true, cancelable: true }));
        } }"""
    )  # all before the browser has gone back

    await expect(_viewer(album_page)).to_be_hidden()
    await expect(_tile(album_page, album.ids["1"])).to_be_focused()
    assert page.url == f"{album_page.base}/"


async def test_back_of_the_browser_closes_the_viewer(album_page: WebPage, album: Album) -> None:
    await album_page.open()
    await _tile(album_page, album.ids["1"]).click()
    await expect(_viewer(album_page)).to_be_visible()
    await album_page.page.keyboard.press("ArrowRight")

    await album_page.page.go_back()

    await expect(_viewer(album_page)).to_be_hidden()
    await album_page.page.go_forward()
    await expect(_viewer(album_page)).to_be_visible()


async def test_the_full_size_picture_comes_with_zoom(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    await album_page.open(f"/photos/{album.ids['1']}")
    await expect(page.locator(".picture-preview.is-loaded")).to_be_visible()
    assert await page.locator(".picture-fullsize").count() == 0

    await page.mouse.move(500, 300)
    await page.mouse.wheel(0, -240)

    full = page.locator(".picture-fullsize.is-loaded")
    await expect(full).to_be_visible()
    assert await full.evaluate("image => image.naturalWidth") == 3000
    assert await _get_scale(page.locator(".picture-layers")) > 1.2
    await page.mouse.dblclick(500, 300)
    assert await _get_scale(page.locator(".picture-layers")) == 1


async def test_fingers_zoom_move_and_swipe(chromium: Browser, album: Album) -> None:
    options = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    async with open_web_page(chromium, album.service.url, album.account, options=options) as phone:
        await phone.open()
        await _tile(phone, album.ids["2"]).tap()
        await expect(phone.page.locator(".picture-preview.is-loaded")).to_be_visible()

        await _touch(phone, [[(150, 400), (240, 400)], [(100, 400), (290, 400)], [(50, 400), (340, 400)]])
        layers = phone.page.locator(".picture-layers")
        assert await _get_scale(layers) > 2
        await phone.page.keyboard.press("-")
        for _ in range(4):
            await phone.page.keyboard.press("-")
        assert await _get_scale(layers) == 1

        await _touch(phone, [[(300, 400)], [(200, 405)], [(90, 410)]])
        await expect(phone.page).to_have_url(f"{phone.base}/photos/{album.ids['3']}")
        await _touch(phone, [[(100, 400)], [(200, 400)], [(320, 400)]])
        await expect(phone.page).to_have_url(f"{phone.base}/photos/{album.ids['2']}")
        await _touch(phone, [[(200, 300)], [(200, 420)], [(205, 560)]])
        await expect(_viewer(phone)).to_be_hidden()

        await _tile(phone, album.ids["video"]).click()
        box = await phone.page.locator("video").bounding_box()
        assert box is not None
        controls = int(box["y"] + box["height"]) - 30
        await _touch(phone, [[(300, controls)], [(200, controls)], [(90, controls)]])
        assert phone.page.url == f"{phone.base}/photos/{album.ids['video']}"
        await _touch(phone, [[(300, 390)], [(200, 395)], [(90, 400)]])
        await expect(phone.page).to_have_url(f"{phone.base}/photos/{album.ids['broken']}")


async def test_only_the_neighbours_are_loaded_ahead(album_page: WebPage, album: Album) -> None:
    previews: set[str] = set()

    def note(request: Request) -> None:
        if "size=preview" in request.url:
            previews.add(request.url.split("/assets/")[1].split("/")[0])

    await album_page.open()
    await _tile(album_page, album.ids["3"]).wait_for()
    album_page.page.on("request", note)
    await _tile(album_page, album.ids["3"]).click()
    await expect(album_page.page.locator(".picture-preview.is-loaded")).to_be_visible()
    await album_page.page.wait_for_load_state("networkidle")

    assert previews == {album.ids[name] for name in ("2", "3", "4")}


async def test_a_live_photo_plays_under_the_pointer(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    await album_page.open(f"/photos/{album.ids['live']}")
    await expect(page.locator(".picture-preview.is-loaded")).to_be_visible()
    await page.mouse.move(5, 790)

    await page.get_by_role("button", name="Play the live photo").click()

    await expect(page.locator(".picture-live.is-loaded")).to_be_attached()
    await expect(page.locator(".picture-live")).to_have_count(0)  # it ends by itself


async def test_the_panel_tells_what_is_known(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    with album.service.client(album.account) as client:
        asset = client.get(f"/api/assets/{album.ids['1']}").json()
    await album_page.open(f"/photos/{album.ids['1']}")
    await page.keyboard.press("i")
    panel = page.get_by_role("complementary", name="Details")

    for told in (
        re.compile("Jun 20, 2024|20 Jun 2024"),
        re.compile("12:34.*UTC\\+2"),
        "Fujifilm X-T5",
        "XF 16-55",
        "ƒ/2.8 · 1/250 s · 35 mm · ISO 200",
        "33.85700° S, 151.21500° E",
        re.compile(r"^1\.jpg$"),  # the path may end with these characters, too
        re.compile("3000 × 2000.*image/jpeg"),
        "On the server's disk",
        asset["originalPath"],
        base64.b64decode(asset["checksum"]).hex(),
    ):
        await expect(panel.get_by_text(told)).to_be_visible()


async def test_a_broken_photo_says_why_and_can_be_downloaded(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    await album_page.open(f"/photos/{album.ids['broken']}")
    await expect(page.get_by_text("No preview yet")).to_be_visible()

    await page.keyboard.press("i")
    await expect(page.get_by_text("Something is wrong")).to_be_visible()
    async with page.expect_download() as started:
        await page.keyboard.press("d")
    assert (await started.value).suggested_filename == "broken.jpg"


async def test_a_favourite_is_marked_in_the_grid_too(album_page: WebPage, album: Album) -> None:
    page, asset_id = album_page.page, album.ids["2"]
    await album_page.open(f"/photos/{asset_id}")
    button = page.get_by_role("button", name="Favourite")
    await button.click()
    await expect(button).to_have_attribute("aria-pressed", "true")

    with album.service.client(album.account) as client:
        _expect_favorite(client, asset_id, expected=True)
        await page.keyboard.press("Escape")
        await expect(page.locator(f".tile[data-id='{asset_id}'] .badge-favorite")).to_be_visible()
        await _tile(album_page, asset_id).click()
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "false")
        _expect_favorite(client, asset_id, expected=False)


async def test_trash_goes_on_to_the_next_and_can_be_undone(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    await album_page.open(f"/photos/{album.ids['3']}")
    await expect(page.get_by_role("button", name="Next")).to_be_visible()

    await page.keyboard.press("Delete")
    await expect(page).to_have_url(f"{album_page.base}/photos/{album.ids['4']}")
    await page.get_by_role("button", name="Undo").click()

    await expect(page.get_by_text("Restored from the trash")).to_be_attached()
    await page.keyboard.press("Escape")
    await expect(_tile(album_page, album.ids["3"])).to_be_visible()
    with album.service.client(album.account) as client:
        assert client.get("/api/assets/statistics").json()["total"] == len(album.ids)


async def test_delete_trashes_one_however_long_and_often_it_is_pressed(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    trashed: list[str | None] = []
    page.on("request", lambda request: trashed.append(request.post_data) if request.method == "DELETE" else None)
    await album_page.open(f"/photos/{album.ids['3']}")
    await expect(page.get_by_role("button", name="Next")).to_be_visible()

    async with _delay(album_page, "**/api/assets"):
        await page.keyboard.press("Delete")
        await page.keyboard.press("Delete")
        await page.keyboard.down("Delete")  # goes down once, and repeats
    await expect(page).to_have_url(f"{album_page.base}/photos/{album.ids['4']}")
    for _ in range(3):
        await page.keyboard.down("Delete")
    await page.keyboard.up("Delete")
    await page.get_by_role("button", name="Undo").click()
    await expect(page.get_by_text("Restored from the trash")).to_be_visible()

    assert len(trashed) == 1
    await expect(page).to_have_url(f"{album_page.base}/photos/{album.ids['4']}")


async def test_a_photo_that_was_deleted_elsewhere_is_told_as_missing(album_page: WebPage, album: Album) -> None:
    page = album_page.page
    album_page.allow_status(404)
    with album.service.client(album.account) as client:
        deleted = _upload_photo(client)
        await album_page.open()
        await _tile(album_page, deleted).wait_for()
        assert client.request("DELETE", "/api/assets", json={"ids": [deleted], "force": True}).status_code == 204
        eventually(lambda: client.get(f"/api/assets/{deleted}").status_code == 404, "it is deleted")

    await _tile(album_page, deleted).click()
    await page.keyboard.press("f")

    await expect(page.get_by_text("This photo is not here.")).to_be_visible()
    await page.get_by_role("button", name="Show all photos").click()
    await expect(_tile(album_page, album.order[0])).to_be_visible()
    await expect(_tile(album_page, deleted)).to_have_count(0)


async def test_a_preview_is_shown_once_it_has_been_made(album_page: WebPage, album: Album) -> None:
    """The photo goes to another month then: its own date is known."""
    page, job = album_page.page, "/api/jobs/thumbnailGeneration"
    told = {"fileCreatedAt": "2023-03-01T10:00:00Z"}
    with album.service.client(album.account) as client:
        assert client.put(job, json={"command": "pause"}).status_code == 200
        try:
            added = upload(client, make_described_photo(), "new.jpg", fields=told).json()["id"]
            await album_page.open()
            await page.locator(f"[data-month='2023-03-01'] .tile[data-id='{added}']").click()
            await expect(page.get_by_text("No preview yet")).to_be_visible()
        finally:
            assert client.put(job, json={"command": "resume"}).status_code == 200

        await expect(page.locator(".picture-preview.is-loaded")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator(f"[data-month='2024-06-01'] .tile[data-id='{added}'] .is-loaded")).to_be_visible()
        await expect(page.locator("[data-month='2023-03-01']")).to_have_count(0)
        assert client.request("DELETE", "/api/assets", json={"ids": [added], "force": True}).status_code == 204


async def test_pictures_come_after_the_connection_was_lost(album_page: WebPage, album: Album) -> None:
    page, ids = album_page.page, album.ids
    album_page.allowed.append(LOST_REQUEST)
    await page.route("**/thumbnail?size=thumbnail*", lambda route: route.abort("connectionreset"))
    await album_page.open()
    await expect(page.locator(".tile-waiting")).to_have_count(len(ids))
    await page.unroute("**/thumbnail?size=thumbnail*")
    await expect(page.locator(".tile-image.is-loaded")).to_have_count(len(ids) - 1)  # one is broken
    await album_page.set_network(offline=True)
    await _tile(album_page, ids["2"]).click()
    await expect(page.get_by_text("No connection.")).to_be_visible()

    await album_page.set_network()

    await expect(page.locator(".picture-preview.is-loaded")).to_be_visible()


def _upload_photo(client: httpx.Client) -> str:
    """A photo that is newer than the album's."""
    moment = "2024-06-25T10:00:00Z"
    return upload(client, make_jpeg(900, 600), "new.jpg", fields={"fileCreatedAt": moment}).json()["id"]


@asynccontextmanager
async def _delay(web_page: WebPage, address: str) -> AsyncIterator[None]:
    """Requests whose address matches are sent only at the end of the block."""
    released = asyncio.Event()

    async def hold(route: Route) -> None:
        await released.wait()
        await route.continue_()

    await web_page.context.route(address, hold)
    yield
    released.set()


def _viewer(web_page: WebPage) -> Locator:
    return web_page.page.get_by_role("dialog", name="Viewer")


def _tile(web_page: WebPage, asset_id: str) -> Locator:
    return web_page.page.locator(f".tile[data-id='{asset_id}'] .tile-link")


async def _get_scale(layers: Locator) -> float:
    return await layers.evaluate("element => new DOMMatrix(getComputedStyle(element).transform).a")


def _expect_favorite(client: httpx.Client, asset_id: str, *, expected: bool) -> None:
    eventually(lambda: client.get(f"/api/assets/{asset_id}").json()["isFavorite"] is expected, "the service knows it")


async def _touch(web_page: WebPage, steps: list[list[tuple[int, int]]]) -> None:
    """Fingers go down at the first points, move over the others, and go up at the last."""
    for number, points in enumerate(steps):
        kind = "touchMove" if number else "touchStart"
        touches = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        await web_page.devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    await web_page.devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
