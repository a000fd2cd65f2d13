"""Texts of strangers in file names, EXIF and content types: markup is shown as it is written, never runs and never breaks the page."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import quote

import httpx
from PIL import Image
from playwright.async_api import expect

from tests.real.web_page import WebPage

MARKUP = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
ADDRESS = "javascript:document.title='ran'"
REVERSED = "photo\u202egpj.exe"
LONG = "x" * 5_000
MODEL, MAKE, DESCRIPTION = 0x0110, 0x010F, 0x010E
NAMES = (
    f"{MARKUP.replace('/', '&#47;')}.jpg",
    f"{ADDRESS}.jpg",
    f"{REVERSED}.jpg",
    "'\"><b>&amp;{title}${1}`.jpg",
    f"{LONG}.jpg",
)


async def test_a_name_is_shown_as_it_is(web_page: WebPage, client: httpx.Client) -> None:
    page = web_page.page
    for name in NAMES:
        asset_id = _upload(client, name, _make_photo(MARKUP))
        kept = client.get(f"/api/assets/{asset_id}").json()["originalFileName"]
        await web_page.open(f"/photos/{asset_id}")
        await page.get_by_role("button", name="Details").first.click()

        await expect(page.locator(".info").get_by_text(kept, exact=True)).to_be_visible()
        await expect(page.get_by_role("button", name="Download the original")).to_be_visible()
        assert await page.title() != "ran"
        assert await page.locator("img[src='x'], img[onerror], .info script, .info b").count() == 0
        assert await _measure_overflow(web_page) <= 0


async def test_a_name_in_the_uploads_is_shown_as_it_is(web_page: WebPage, client: httpx.Client, tmp_path: Path) -> None:
    names = ["<img src=x onerror=alert(1)>.jpg", f"{REVERSED}.jpg", f"{'y' * 250}.jpg", "javascript:alert(1).txt"]
    for index, name in enumerate(names):
        (tmp_path / name).write_bytes(_make_photo(str(index)))
    await web_page.open()

    await web_page.drop(*(tmp_path / name for name in names))

    await web_page.expect_uploads("3 uploaded · 1 failed")
    for name in names:
        await expect(web_page.row(name)).to_be_visible()
    assert await web_page.page.locator("img[src='x']").count() == 0
    assert await _measure_overflow(web_page) <= 0


async def test_what_is_no_picture_is_told_and_nothing_of_it_runs(web_page: WebPage, client: httpx.Client) -> None:
    content = f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"document.title='ran'\"><text>{MARKUP}</text></svg>"
    asset_id = _upload(client, "drawing.svg", content.encode(), "text/html")
    page = web_page.page
    await web_page.open(f"/photos/{asset_id}")

    await expect(page.get_by_role("dialog", name="Viewer")).to_be_visible()
    assert await page.title() != "ran"
    original = client.get(f"/api/assets/{asset_id}/original")
    assert "text/html" not in original.headers["content-type"]
    assert original.headers["content-disposition"].startswith("attachment")
    web_page.allow_status(404)


async def test_an_address_of_a_stranger_leads_nowhere(web_page: WebPage) -> None:
    web_page.allow_status(400)
    web_page.allow_status(404)
    names = (*(quote(name, safe="") for name in (MARKUP.replace("/", ""), "not-there", ADDRESS)), "%", "%E0%A4%A")
    for name in names:
        await web_page.open(f"/photos/{name}")

        await expect(web_page.page.get_by_text("This photo is not here.")).to_be_visible()
        assert await web_page.page.title() != "ran"


async def _measure_overflow(web_page: WebPage) -> int:
    """Pixels by which the page is wider than the window."""
    script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return await web_page.page.evaluate(script)


def _make_photo(text: str) -> bytes:
    """A photo whose EXIF texts are `text`."""
    image = Image.effect_noise((64, 48), 90).convert("RGB")
    exif = image.getexif()
    for tag in (MODEL, MAKE, DESCRIPTION):
        exif[tag] = text
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    return out.getvalue()


def _upload(client: httpx.Client, name: str, content: bytes, content_type: str = "image/jpeg") -> str:
    moment = "2024-06-01T12:00:00Z"
    answer = client.post(
        "/api/assets",
        data={"fileCreatedAt": moment, "fileModifiedAt": moment, "filename": name},
        files={"assetData": (name if name.isascii() and len(name) < 20 else "photo.jpg", content, content_type)},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]
