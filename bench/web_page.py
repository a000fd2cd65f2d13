"""`python -m bench.web_page`: measures the page on a large library in Chromium, by the browser's own performance records.

There is no peer. A library is made of `--assets` rows and hard links; then, in each round, a new tab opens it, jumps through it, scrolls, and
drags the scrubber from end to end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
from playwright.async_api import Browser, Page, async_playwright

from bench.report import save_results
from bench.rows import ResultRow, Sample
from tests.real.albums import Album, create_album
from tests.real.archive_programs import program
from tests.real.large_library import multiply_assets
from tests.real.service import WORKING, Service
from tests.real.stacks import Stack
from tests.real.waiting import eventually_so
from tests.real.web_page import FLAGS, WebPage, open_web_page

ASSETS = 100_000
ROUNDS = 3
SEED = 1
MEBIBYTE = 1024**2
JUMPS = (0.5, 0.95, 0.1, 0.7, 0.3)
WHEEL_STEPS = 60
WHEEL_PIXELS = 900
FRAME_SECONDS = 1 / 60
WITHIN_SECONDS = 60.0
GOALS = {
    "first_content_ms": 1000,
    "layout_shift": 0.02,
    "longest_task_ms": 200,
    "page_mib": 300,
    "most_tiles": 500,
}
RECORD = """
  window.records = { shift: 0, longest: 0, tiles: 0 };
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) records.shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) records.longest = Math.max(records.longest, entry.duration);
  }).observe({ type: "longtask", buffered: true });
  const count = () => {
    records.tiles = Math.max(records.tiles, document.querySelectorAll(".tile").length);
    requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
"""
HAS_COME = """
  document.querySelector(".tile-image.is-loaded") !== null && document.querySelector(".month.is-loading") === null
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=int, default=ASSETS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="where the library is made; must allow hard links")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mediavault-bench-", dir=options.folder) as name:
        samples = asyncio.run(_measure(Path(name), options.assets, options.rounds))
    _print_table(samples, options.assets)
    if options.assets >= ASSETS and options.rounds >= ROUNDS:
        row = ResultRow(f"page with {ASSETS:,} assets", "longest_task_ms", {"mediavault": samples})
        print(f"raw figures: bench/results/{save_results('page', [row], options.rounds).name}")


async def _measure(folder: Path, assets: int, rounds: int) -> list[Sample]:
    stack = Stack("local", folder, f"sqlite:///{folder}/catalogue.db", None)
    with Service(stack, program=WORKING, spawned=False) as service:
        album = create_album(service, folder)
        multiply_assets(folder / "catalogue.db", album.account.id, assets, SEED)
        return [await _measure_round(album) for _ in range(rounds)]


async def _measure_round(album: Album) -> Sample:
    """One tab of a new browser, so that nothing is cached."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program("chromium"), args=[*FLAGS, "--enable-precise-memory-info"]
        )
        async with open_web_page(browser, album.service.url, album.account) as web_page:
            await web_page.context.add_init_script(RECORD)
            sample = await _use_page(web_page, browser)
        await browser.close()
    return sample


async def _use_page(web_page: WebPage, browser: Browser) -> Sample:
    page = web_page.page
    await web_page.open()
    await _wait(page)
    paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    box = await page.get_by_role("slider", name="Jump to a month").bounding_box()
    assert box is not None
    x, top, height = box["x"] + box["width"] / 2, box["y"] + 20, box["height"] - 40
    memory = [await _read_page_mebibytes(browser)]
    jumps: list[float] = []
    for share in JUMPS:
        begun = time.monotonic()
        await page.mouse.click(x, top + share * height)
        await _wait(page)
        jumps.append((time.monotonic() - begun) * 1000)
    await page.mouse.move(400, 400)
    for direction in (1, -1):
        for _ in range(WHEEL_STEPS):
            await page.mouse.wheel(0, WHEEL_PIXELS * direction)
            await asyncio.sleep(FRAME_SECONDS)
        await _wait(page)
        memory.append(await _read_page_mebibytes(browser))
    await page.mouse.move(x, top)
    await page.mouse.down()
    await page.mouse.move(x, top + height, steps=100)
    await page.mouse.up()
    await _wait(page)
    memory.append(await _read_page_mebibytes(browser))
    records = await page.evaluate("window.records")
    return {
        "first_content_ms": paint,
        "jump_ms": statistics.median(jumps),
        "layout_shift": records["shift"],
        "longest_task_ms": records["longest"],
        "page_mib": max(memory),
        "most_tiles": records["tiles"],
        "load_average": os.getloadavg()[0],
    }


async def _wait(page: Page) -> None:
    """Until all months on the screen have come, and thumbnails."""

    async def has_come() -> bool:
        return await page.evaluate(HAS_COME)

    await eventually_so(has_come, "photos are on the screen", within=WITHIN_SECONDS)


async def _read_page_mebibytes(browser: Browser) -> float:
    """The memory of the page's process that no other process shares."""
    session = await browser.new_browser_cdp_session()
    processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    await session.detach()
    return (
        max(psutil.Process(each["id"]).memory_full_info().uss for each in processes if each["type"] == "renderer")
        / MEBIBYTE
    )


def _print_table(samples: Iterable[Sample], assets: int) -> None:
    samples = list(samples)
    print(f"page with {assets:,} assets, median of {len(samples)} rounds")
    for name in samples[0]:
        goal = f" (goal: at most {GOALS[name]})" if name in GOALS else ""
        print(f"  {name}: {statistics.median(sample[name] for sample in samples):.4g}{goal}")


if __name__ == "__main__":
    main()
