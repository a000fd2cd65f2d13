"""The main journey of a newcomer, in a real browser: from the printed address to the sign-out, on a disk and on S3."""

from __future__ import annotations

import asyncio
import subprocess
import zipfile
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, Request, expect

from tests.real.archive_programs import video_program
from tests.real.sample_media import make_jpeg
from tests.real.web_page import WebPage, open_web_page
from tests.web.journeys.conftest import FirstRun

PHOTOS = 10
CHOSEN = 3
MEBIBYTE = 1024 * 1024


async def test_from_the_printed_address_to_the_sign_out(chromium: Browser, first_run: FirstRun, tmp_path: Path) -> None:
    await _travel(chromium, first_run, tmp_path)


@pytest.mark.soak  # Firefox is large, and starts slowly
async def test_the_same_in_firefox(firefox: Browser, first_run: FirstRun, tmp_path: Path) -> None:
    await _travel(firefox, first_run, tmp_path)


async def _travel(browser: Browser, first_run: FirstRun, tmp_path: Path) -> None:
    dropped = {f"Foto {number}.jpg": make_jpeg(320, 240) for number in range(PHOTOS)}
    dropped["Film.mp4"] = await asyncio.to_thread(_make_large_video, tmp_path / "made.mp4")
    for name, content in dropped.items():
        (tmp_path / name).write_bytes(content)
    url = first_run.service.url
    async with open_web_page(browser, url, None) as web_page:
        page = web_page.page
        await page.goto(first_run.address)
        await expect(page.get_by_text("Room for your photos")).to_be_visible()
        assert page.url == f"{url}/"

        bring = web_page.drop if web_page.chromium_session else web_page.choose
        await bring(*(tmp_path / name for name in dropped))
        await web_page.expect_uploads("11 uploaded")
        await page.get_by_role("button", name="Close uploads").click()
        await expect(page.locator(".tile-image.is-loaded")).to_have_count(PHOTOS + 1)

        await _seek_the_video(page)
        await _download_three(page, dropped, tmp_path)
        with first_run.service.client() as client:
            client.headers["x-api-key"] = first_run.key
            await _trash_and_restore(page, client)
            await _mark_as_favorite(page, client)
        await _sign_out(web_page)
    await _open_again(browser, first_run)


async def _seek_the_video(page: Page) -> None:
    """80 % of a video is reached by a range request, long before all of it has been loaded."""
    ranges: list[str] = []

    async def note(request: Request) -> None:
        if request.url.partition("?")[0].endswith("/video/playback"):
            ranges.append((await request.all_headers()).get("range", ""))

    page.on("request", note)
    await page.get_by_role("link", name="Video of").click()
    video = page.locator("video")
    await expect(video).to_have_js_property("readyState", 4)
    ranges.clear()
    await video.evaluate("video => { video.currentTime = video.duration * 0.8; }")
    await expect(video).to_have_js_property("seeking", False)
    assert await video.evaluate(
        "video => Math.abs(video.currentTime / video.duration - 0.8) < 0.01 && video.readyState >= 2"
    )
    starts = [int(sent.removeprefix("bytes=").partition("-")[0]) for sent in ranges if sent]
    assert starts, "a range is requested"
    assert max(starts) > 4 * MEBIBYTE
    page.remove_listener("request", note)
    await page.keyboard.press("Escape")
    await expect(video).to_have_count(0)


async def _download_three(page: Page, dropped: dict[str, bytes], folder: Path) -> None:
    # By the keyboard: a Firefox without a screen has no pointer that hovers, so no boxes are shown there.
    await page.locator(".tile-link[tabindex='0']").focus()
    await page.keyboard.press("Home")
    for _ in range(CHOSEN):
        await page.keyboard.press(" ")
        await page.keyboard.press("ArrowRight")
    bar = page.get_by_role("toolbar", name="Selection")
    await expect(bar).to_contain_text(f"{CHOSEN} selected")
    async with page.expect_download() as downloading:
        await bar.get_by_role("button", name="Download").click()
    download = await downloading.value
    await download.save_as(folder / "three.zip")

    assert download.suggested_filename.endswith(".zip")
    with zipfile.ZipFile(folder / "three.zip") as archive:
        unpacked = {name: archive.read(name) for name in archive.namelist()}
    assert len(unpacked) == CHOSEN
    assert all(dropped[name] == content for name, content in unpacked.items())
    await page.keyboard.press("Escape")
    await expect(bar).to_be_hidden()


async def _trash_and_restore(page: Page, client: httpx.Client) -> None:
    tiles = page.locator(".tile")
    await page.get_by_role("link", name="Photo,").first.click()
    await page.get_by_role("button", name="Move to the trash").click()
    await expect(page.get_by_text("Moved to the trash")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(tiles).to_have_count(PHOTOS)
    assert client.get("/api/assets/statistics", params={"isTrashed": True}).json()["total"] == 1

    await page.get_by_role("link", name="Trash").click()
    await expect(tiles).to_have_count(1)
    await page.get_by_role("button", name="Restore all").click()
    await expect(page.get_by_text("The trash is empty")).to_be_visible()
    await page.get_by_role("link", name="Photos", exact=True).click()
    await expect(tiles).to_have_count(PHOTOS + 1)


async def _mark_as_favorite(page: Page, client: httpx.Client) -> None:
    await page.get_by_role("link", name="Photo,").first.click()
    await page.get_by_role("button", name="Favourite").click()
    await expect(page.get_by_text("Marked as a favourite")).to_be_visible()
    shown = page.url.rpartition("/")[2]
    assert client.get(f"/api/assets/{shown}").json()["isFavorite"] is True
    await page.keyboard.press("Escape")


async def _sign_out(web_page: WebPage) -> None:
    page = web_page.page
    # What is still asked for when the session ends is refused, which the browser reports as an error.
    await expect(page.locator(".tile-image.is-loaded")).to_have_count(PHOTOS + 1)
    await page.get_by_role("button", name="Account").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    cookies = {cookie.get("name") for cookie in await web_page.context.cookies()}
    assert "immich_access_token" not in cookies
    await page.goto(f"{web_page.base}/trash")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def _open_again(browser: Browser, first_run: FirstRun) -> None:
    """The address has worked once, in whichever browser."""
    async with open_web_page(browser, first_run.service.url, None) as web_page:
        await web_page.page.goto(first_run.address)
        await expect(web_page.page.get_by_text("That address has been used already")).to_be_visible()
        assert "signin=" not in web_page.page.url
        web_page.allow_status(401)


def _make_large_video(path: Path) -> bytes:
    """Noise of ten seconds, which takes more bytes than a browser loads in advance."""
    source = "nullsrc=size=320x240:rate=10:duration=10,noise=alls=100:allf=t+u"
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-g", "10", "-pix_fmt", "yuv420p")
    command = (video_program("ffmpeg"), "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", source, *codec)
    subprocess.run([*command, "-movflags", "+faststart", str(path)], check=True, timeout=60)
    assert path.stat().st_size > 8 * MEBIBYTE
    return path.read_bytes()
