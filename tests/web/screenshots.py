"""`make screenshots`: takes the pictures of the page that the README shows, of a service with drawn landscapes.

Needs Chromium and ffmpeg, as the tests do.
"""

from __future__ import annotations

import asyncio
import io
import secrets
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

import httpx
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.real.accounts import Account
from tests.real.archive_programs import program
from tests.real.databases import DatabaseFactory
from tests.real.postgres import Postgres
from tests.real.service import ROOT, WORKING, Service
from tests.real.stacks import Stacks
from tests.real.waiting import eventually
from tests.real.web_page import FLAGS, PATIENCE_MS, open_web_page
from tests.web.sample_landscapes import Landscape, draw_landscapes

TARGET = ROOT / "docs" / "screenshots"
COUNT = 56
SEED = 7
OPENED = 15
"""Which landscape the viewer shows."""
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
Scheme = Literal["light", "dark"]

_WAIT_FOR_THUMBNAILS = """async (patience) => {
  const isShown = (tile) => tile.getBoundingClientRect().top < innerHeight;
  const end = performance.now() + patience;
  for (;;) {
    const tiles = [...document.querySelectorAll(".tile")].filter(isShown);
    if (tiles.length > 5 && tiles.every((tile) => tile.querySelector(".tile-image.is-loaded"))) return;
    if (performance.now() > end) throw new Error("a thumbnail was not loaded in time");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}"""


def main() -> None:
    folder = Path(tempfile.gettempdir()) / "photos"  # the viewer shows it
    folder.mkdir()
    try:
        databases = DatabaseFactory(Postgres)
        stack = Stacks(_refuse_s3, databases).create("local", folder, tables=False)
        with Service(stack, program=WORKING) as service:
            account = service.people.add(is_admin=True, password=secrets.token_hex(8))
            with service.client(account, timeout=60) as client:
                ids = fill_library(client, folder)
            asyncio.run(take_all(service.url, account, ids[OPENED]))
        databases.close()
    finally:
        shutil.rmtree(folder)


def fill_library(client: httpx.Client, folder: Path) -> list[str]:
    """Uploads the landscapes and a video; returns the ids once all have thumbnails."""
    landscapes = list(draw_landscapes(COUNT, SEED))
    ids = [_upload(client, landscape) for landscape in landscapes]
    ids.append(_upload(client, _make_video(folder, landscapes[2])))
    client.put("/api/assets", json={"ids": [ids[1], ids[9]], "isFavorite": True}).raise_for_status()
    for asset_id in ids:
        eventually(partial(_is_found, client, f"/api/assets/{asset_id}/thumbnail"), "all have thumbnails", within=120)
    return ids


async def take_all(url: str, account: Account, opened: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program("chromium"), args=list(FLAGS))
        expect.set_options(timeout=PATIENCE_MS)
        schemes: tuple[Scheme, Scheme] = ("light", "dark")
        for scheme in schemes:
            await take(browser, url, account, f"grid-{scheme}", "/", scheme, DESKTOP)
        await take(browser, url, account, "viewer", f"/photos/{opened}", "dark", DESKTOP)
        await take(browser, url, account, "phone", "/", "light", PHONE)
        await browser.close()


async def take(
    browser: Browser, url: str, account: Account, name: str, path: str, scheme: Scheme, size: dict[str, int]
) -> None:
    options = {"viewport": size, "color_scheme": scheme, "locale": "en-US", "timezone_id": "UTC"}
    async with open_web_page(browser, url, account, options=options) as web_page:
        page = web_page.page
        await web_page.open(path)
        if path == "/":
            await page.evaluate(_WAIT_FOR_THUMBNAILS, PATIENCE_MS)
        else:
            await page.get_by_role("button", name="Details").first.click()
            await expect(page.get_by_text("SHA-1")).to_be_visible()
            await page.wait_for_load_state("networkidle")
        await _save(page, name)


async def _save(page: Page, name: str) -> None:
    shot = await page.screenshot(animations="disabled")
    TARGET.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").save(TARGET / f"{name}.webp", quality=82, method=6)
    print(TARGET / f"{name}.webp", (TARGET / f"{name}.webp").stat().st_size, "bytes")


def _upload(client: httpx.Client, landscape: Landscape) -> str:
    moment = landscape.taken_at.isoformat()
    times = {"fileCreatedAt": moment, "fileModifiedAt": moment}
    answer = client.post("/api/assets", data=times, files={"assetData": (landscape.name, landscape.content)})
    answer.raise_for_status()
    return answer.json()["id"]


def _make_video(folder: Path, still: Landscape) -> Landscape:
    """A slow zoom into a landscape."""
    (folder / "still.jpg").write_bytes(still.content)
    zoom = "scale=1280:-2,zoompan=z='1+on/1000':d=200:s=1280x720:fps=25,format=yuv420p"
    command = ("ffmpeg", "-nostdin", "-v", "error", "-y", "-i", "still.jpg", "-vf", zoom, "-c:v", "libx264", "film.mp4")
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    return Landscape("MOV_4201.mp4", still.taken_at, (folder / "film.mp4").read_bytes())


def _is_found(client: httpx.Client, address: str) -> bool:
    return client.get(address).status_code == 200


def _refuse_s3() -> NoReturn:
    raise AssertionError("the screenshots need no S3 server")


if __name__ == "__main__":
    main()
