"""`python -m bench.web_page`: measures the page on large libraries in Chromium, by the browser's own performance records.

There is no peer. A library is made of `--assets` rows and hard links (of each size in turn); then, in each round, a new tab opens it, jumps
through it, scrolls, and drags the scrubber from end to end. The list of months is requested as the page does, and the page's worker hashes
a file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

ASSETS = (100_000, 1_000_000)
ROUNDS = 3
HASHED_MEBIBYTES = 256
MONTH_REQUESTS = 20
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
TASK_GOALS = {"longest_task_cpu_ms": 200}
MONTHS_GOALS = {"cpu_ms": 50}
HASH_GOALS = {"megabytes_per_second": 150, "megabytes_per_cpu_second": 150}
"""At least; the others are at most."""
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


HASH = """async ([address, mebibytes]) => {
  const piece = crypto.getRandomValues(new Uint8Array(65536));
  const file = new File(Array(mebibytes * 16).fill(piece), "file");
  const worker = new Worker(address, { type: "module" });
  const hash = (id) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => data.sha1 ? resolve() : data.error && reject(new Error(data.error));
    worker.postMessage({ id, file });
  });
  await hash(1);
  const begun = performance.now();
  await hash(2);
  worker.terminate();
  return performance.now() - begun;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=int, nargs="+", default=list(ASSETS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="where the libraries are made; must allow hard links")
    options = parser.parse_args()
    rows: list[ResultRow] = []
    for assets in options.assets:
        with tempfile.TemporaryDirectory(prefix="mediavault-bench-", dir=options.folder) as name:
            rows += asyncio.run(_measure(Path(name), assets, options.rounds, is_last=assets == options.assets[-1]))
    if tuple(options.assets) == ASSETS and options.rounds >= ROUNDS:
        print(f"raw figures: bench/results/{save_results('page', rows, options.rounds).name}")


async def _measure(folder: Path, assets: int, rounds: int, *, is_last: bool) -> list[ResultRow]:
    stack = Stack("local", folder, f"sqlite:///{folder}/catalogue.db", None)
    with Service(stack, program=WORKING, spawned=False) as service:
        album = create_album(service, folder)
        multiply_assets(folder / "catalogue.db", album.account.id, assets, SEED, kinds=frozenset({"thumbnail"}))
        months = [_measure_months(album) for _ in range(rounds)]
        page = [await _measure_round(album) for _ in range(rounds)]
        tasks = [await _measure_tasks(album) for _ in range(rounds)]
        rows = [
            _report(f"months of {assets:,} assets", "cpu_ms", months, MONTHS_GOALS),
            _report(f"page with {assets:,} assets", "longest_task_ms", page, GOALS),
            _report(f"tasks of the page with {assets:,} assets", "longest_task_cpu_ms", tasks, TASK_GOALS),
        ]
        if is_last:
            hashed = [await _measure_hash(album) for _ in range(rounds)]
            rows.append(_report("SHA-1 in the page", "megabytes_per_cpu_second", hashed, HASH_GOALS))
    return rows


def _measure_months(album: Album) -> Sample:
    """CPU of the service for a list of months that it knows already, and the time of a request."""
    process = album.service.process
    with album.service.client(album.account) as client:
        counted = sum(month["count"] for month in client.get("/api/timeline/buckets").raise_for_status().json())
        cpu, begun = sum(process.cpu_times()[:2]), time.monotonic()
        for _ in range(MONTH_REQUESTS):
            client.get("/api/timeline/buckets").raise_for_status()
        seconds = time.monotonic() - begun
        cpu = sum(process.cpu_times()[:2]) - cpu
    return {
        "cpu_ms": cpu / MONTH_REQUESTS * 1000,
        "request_ms": seconds / MONTH_REQUESTS * 1000,
        "assets": counted,
        "load_average": os.getloadavg()[0],
    }


async def _measure_tasks(album: Album) -> Sample:
    """CPU of the longest task of the page's main thread, by Chromium's own trace, while the page is opened and jumps. On a busy machine a
    task takes several times its CPU."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program("chromium"), args=list(FLAGS))
        session = await browser.new_browser_cdp_session()
        events: list[dict[str, Any]] = []
        ended = asyncio.Event()
        session.on("Tracing.dataCollected", lambda part: events.extend(part["value"]))
        session.on("Tracing.tracingComplete", lambda _: ended.set())
        async with open_web_page(browser, album.service.url, album.account) as web_page:
            await session.send(
                "Tracing.start", {"transferMode": "ReportEvents", "traceConfig": {"includedCategories": ["toplevel"]}}
            )
            await web_page.open()
            await _wait(web_page.page)
            await _jump(web_page.page)
            await session.send("Tracing.end")
            await asyncio.wait_for(ended.wait(), WITHIN_SECONDS)
        await browser.close()
    names = [event for event in events if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"]
    main = {(event["pid"], event["tid"]) for event in names}
    tasks = [event.get("tdur", 0) for event in events if event["ph"] == "X" and (event["pid"], event["tid"]) in main]
    return {"longest_task_cpu_ms": max(tasks) / 1000, "load_average": os.getloadavg()[0]}


async def _measure_hash(album: Album) -> Sample:
    """The page's worker on a file that is too large to be hashed whole, twice. CPU is that of the page's process, and includes its reading."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program("chromium"), args=list(FLAGS))
        async with open_web_page(browser, album.service.url, album.account) as web_page:
            await web_page.open("/trash")
            page = web_page.page
            main = await page.locator("script[type=module]").get_attribute("src")
            assert main is not None
            address = main.replace("main.js", "uploads/hashing/hash-worker.js")
            renderers = await _list_renderers(browser)
            cpu = sum(sum(process.cpu_times()[:2]) for process in renderers)
            milliseconds = await page.evaluate(HASH, [address, HASHED_MEBIBYTES])
            cpu = sum(sum(process.cpu_times()[:2]) for process in renderers) - cpu
        await browser.close()
    megabytes = HASHED_MEBIBYTES * MEBIBYTE / 1e6
    return {
        "megabytes_per_second": megabytes / milliseconds * 1000,
        "megabytes_per_cpu_second": 2 * megabytes / cpu,
        "load_average": os.getloadavg()[0],
    }


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
    thumbnails = await page.evaluate("performance.now()")
    paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    x, top, height = await _find_scrubber(page)
    memory = [await _read_page_mebibytes(browser)]
    jumps = await _jump(page)
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
        "first_thumbnails_ms": thumbnails,
        "jump_ms": statistics.median(jumps),
        "layout_shift": records["shift"],
        "longest_task_ms": records["longest"],
        "page_mib": max(memory),
        "most_tiles": records["tiles"],
        "load_average": os.getloadavg()[0],
    }


async def _jump(page: Page) -> list[float]:
    """Milliseconds of each jump until the months and thumbnails are there."""
    x, top, height = await _find_scrubber(page)
    jumps: list[float] = []
    for share in JUMPS:
        begun = time.monotonic()
        await page.mouse.click(x, top + share * height)
        await _wait(page)
        jumps.append((time.monotonic() - begun) * 1000)
    return jumps


async def _find_scrubber(page: Page) -> tuple[float, float, float]:
    """Its middle, its upper end and its length, in pixels."""
    box = await page.get_by_role("slider", name="Jump to a month").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + 20, box["height"] - 40


async def _wait(page: Page) -> None:
    """Until all months on the screen have come, and thumbnails."""

    async def has_come() -> bool:
        return await page.evaluate(HAS_COME)

    await eventually_so(has_come, "photos are on the screen", within=WITHIN_SECONDS)


async def _read_page_mebibytes(browser: Browser) -> float:
    """The memory of the page's process that no other process shares."""
    return max(process.memory_full_info().uss for process in await _list_renderers(browser)) / MEBIBYTE


async def _list_renderers(browser: Browser) -> list[psutil.Process]:
    session = await browser.new_browser_cdp_session()
    processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    await session.detach()
    return [psutil.Process(each["id"]) for each in processes if each["type"] == "renderer"]


def _report(name: str, figure: str, samples: list[Sample], goals: Mapping[str, float]) -> ResultRow:
    """Print the medians."""
    print(f"{name}, median of {len(samples)} rounds")
    bound = "at least" if goals is HASH_GOALS else "at most"
    for each in samples[0]:
        goal = f" (goal: {bound} {goals[each]:g})" if each in goals else ""
        print(f"  {each}: {statistics.median(sample[each] for sample in samples):.4g}{goal}", flush=True)
    return ResultRow(name, figure, {"mediavault": samples})


if __name__ == "__main__":
    main()
