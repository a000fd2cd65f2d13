"""Chromium on the service's page, driven by Playwright. What must not happen on a page is recorded: errors, violations of the
Content-Security-Policy, requests to other hosts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, CDPSession, ConsoleMessage, Locator, Page, Request, expect

from tests.real.accounts import Account
from tests.real.browser import UNSEEN_FEATURES

PATIENCE_MS = 60_000
DISABLED_BY_PLAYWRIGHT = (
    "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect", "TcpPortRandomizationWin", "OptimizationHints",
    "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch",
)  # fmt: skip
"""Features that Playwright switches off. Chromium heeds only the last flag of this kind, so ours has to repeat them."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    f"--disable-features={','.join((*DISABLED_BY_PLAYWRIGHT, *UNSEEN_FEATURES))}",
)
LOST_REQUEST = re.compile("Failed to load resource: net::ERR_")
"""What Chromium's console says of a request without an answer."""

_WATCH = """
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
  window.longestTask = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.longestTask = Math.max(window.longestTask, entry.duration);
  }).observe({ type: "longtask", buffered: true });
"""

DROP_ATTEMPTS, DROP_MS = 5, 3_000
_WATCH_DROP = """() => {
  window.dropped = new Promise((resolve) => addEventListener("drop", () => resolve(true), { capture: true, once: true }));
}"""
_IS_DROPPED = "(limit) => Promise.race([window.dropped, new Promise((resolve) => setTimeout(resolve, limit, false))])"


@dataclass(slots=True)
class WebPage:
    """A tab. `allowed`: console errors that the test causes. `chromium_session`: None in Firefox."""

    page: Page
    context: BrowserContext
    chromium_session: CDPSession | None
    base: str
    allowed: list[re.Pattern[str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def devtools(self) -> CDPSession:
        """Chromium's DevTools protocol."""
        assert self.chromium_session is not None
        return self.chromium_session

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.base + path)
        await self.page.locator(".header:not([hidden])").wait_for()

    async def drop(self, *paths: Path) -> None:
        """Drop files and folders on the middle of the page, as the system's file manager does. Chromium drops nothing while the page has
        not answered to the last move: then the files are dragged over it again, as a person would."""
        for _ in range(DROP_ATTEMPTS):
            await self.page.evaluate(_WATCH_DROP)
            await self._drag_and_drop([str(path) for path in paths])
            if await self.page.evaluate(_IS_DROPPED, DROP_MS):
                return
        raise AssertionError(f"Chromium dropped nothing in {DROP_ATTEMPTS} attempts")

    async def _drag_and_drop(self, paths: list[str]) -> None:
        data = {"items": [], "files": paths, "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver"):
            await self.devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": data})
        await self.page.locator(".drop-cover:not([hidden])").wait_for(state="attached")
        # As a hand does, hold still for one more event.
        await self.devtools.send("Input.dispatchDragEvent", {"type": "dragOver", "x": 400, "y": 300, "data": data})
        await self.page.evaluate(
            "new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve())))"
        )
        await self.devtools.send("Input.dispatchDragEvent", {"type": "drop", "x": 400, "y": 300, "data": data})

    async def choose(self, *paths: Path) -> None:
        """Choose files with the button, as far as a test can: the system's dialog is skipped."""
        await self.page.set_input_files("#upload-files", [str(path) for path in paths])

    async def set_network(self, *, bytes_per_second: int = -1, offline: bool = False) -> None:
        """Limit the speed of uploads (-1: no limit), or take the network away, of which the browser then knows."""
        conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
        await self.devtools.send("Network.enable")
        await self.devtools.send("Network.emulateNetworkConditions", conditions)

    def row(self, name: str) -> Locator:
        """The row of a file in the upload panel."""
        return self.page.locator(".upload-row").filter(has_text=name)

    async def expect_uploads(self, summary: str, *, timeout: float = PATIENCE_MS) -> None:
        """Wait until all uploads have ended with this summary. `timeout` in milliseconds."""
        await expect(self.page.locator(".upload-status")).to_have_text(summary, timeout=timeout)

    async def wait_until_sent(self, name: str, mebibytes: float, *, timeout: float = PATIENCE_MS) -> None:
        """Wait until more than so much of the file has been sent."""
        await self.page.evaluate(
            """async ([name, bytes, timeout]) => {
              const end = performance.now() + timeout;
              for (;;) {
                const row = [...document.querySelectorAll(".upload-row")].find((each) => each.textContent.includes(name));
                const bar = row?.querySelector("progress");
                if (row?.dataset.state === "sending" && bar.value > bytes) return;
                if (performance.now() > end) throw new Error(`not sent in time: ${row?.textContent}`);
                await new Promise((resolve) => setTimeout(resolve, 20));
              }
            }""",
            [name, mebibytes, timeout],
        )

    async def get_longest_task(self) -> float:
        """Milliseconds of the longest task since the page was opened."""
        return await self.page.evaluate("window.longestTask")

    async def list_faults(self) -> list[str]:
        """What happened on the page that must not happen."""
        violations: list[str] = [] if self.page.is_closed() else await self.page.evaluate("window.violations ?? []")
        errors = [error for error in self.errors if not any(allowed.search(error) for allowed in self.allowed)]
        return [*errors, *violations, *(f"a request to {url}" for url in self.foreign)]

    def allow_status(self, status: int) -> None:
        """Expect a response with this status, of which Chromium's console tells."""
        self.allowed.append(re.compile(f"the server responded with a status of {status} "))

    def watch(self) -> None:
        """Playwright sets attributes on the methods that it is given, which an instance with slots has not: hence the functions."""
        self.page.on("console", lambda message: self._note_console(message))  # noqa: PLW0108
        self.page.on("pageerror", lambda error: self.errors.append(f"{error}\n{error.stack}"))
        self.page.on("request", lambda request: self._note_request(request))  # noqa: PLW0108

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _note_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.netloc != urlsplit(self.base).netloc:
            self.foreign.append(request.url)


@asynccontextmanager
async def open_web_page(
    browser: Browser, base: str, account: Account | None, *, options: dict[str, Any] | None = None
) -> AsyncIterator[WebPage]:
    """A tab of its own profile, in which `account` is signed in (None: nobody); nothing is opened yet. `options` are those of Playwright's `new_context`.
    Fails if something happened that must not."""
    context = await browser.new_context(base_url=base, **(options or {}))
    try:
        if account is not None:
            credentials = {"email": account.email, "password": account.password}
            answer = await context.request.post("/api/auth/login", data=credentials)
            assert answer.status == 201, await answer.text()
        context.set_default_timeout(PATIENCE_MS)
        await context.add_init_script(_WATCH)
        page = await context.new_page()
        is_chromium = browser.browser_type.name == "chromium"
        web_page = WebPage(page, context, await context.new_cdp_session(page) if is_chromium else None, base)
        web_page.watch()
        yield web_page
        faults = await web_page.list_faults()
        assert not faults, "\n".join(faults)
    finally:
        await context.close()
