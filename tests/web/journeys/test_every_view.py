"""Every view of the page in both colour schemes and at three widths: axe-core finds nothing, nothing is wider than the window; and every view is
reached and left by the keyboard alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
from playwright.async_api import Page, expect

from tests.real.accessibility import list_violations
from tests.real.chosen import EITHER
from tests.real.web_page import WebPage
from tests.web.journeys.conftest import FilledLibrary

SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
SIZES = ((1440, 900), (390, 844), (320, 568))
TABLET_WIDTH, TABLET_HEIGHT = 768, 1024
"""The header is fullest just above the width from which it shows no words."""
MEASURE_OVERFLOW = """() => {
  const shown = [...document.querySelectorAll("a, button, input")].filter((each) => each.checkVisibility() && !each.closest(".grid"));
  const edges = shown.map((each) => each.getBoundingClientRect().right - innerWidth);
  const tables = innerWidth < 768 ? [] : [...document.querySelectorAll(".table-scroller")].map((each) => each.scrollWidth - each.clientWidth);
  return Math.max(document.documentElement.scrollWidth - innerWidth, ...edges, ...tables);
}"""
"""Tiles follow the width a frame later. On a phone tables may scroll."""


async def walk_through_views(web_page: WebPage, library: FilledLibrary) -> AsyncIterator[str]:
    """Opens one view after the other; yields the name of each."""
    page = web_page.page
    await web_page.open("/")
    await expect(page.locator(".tile-image.is-loaded").first).to_be_visible()
    yield "grid"
    await page.get_by_role("button", name="Select").first.dispatch_event("click")
    await expect(page.get_by_role("toolbar", name="Selection")).to_be_visible()
    yield "selection"
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    yield "shortcuts"
    await web_page.open("/trash")
    await expect(page.locator(".tile-image.is-loaded")).to_have_count(1)
    yield "trash"
    for name, asset_id in (("photo", library.photo_id), ("video", library.video_id)):
        await web_page.open(f"/photos/{asset_id}")
        await expect(page.get_by_role("dialog", name="Viewer")).to_be_visible()
        await page.get_by_role("button", name="Details").first.click()
        await expect(page.get_by_text("SHA-1")).to_be_visible()
        yield name
    await web_page.open("/administration")
    await expect(page.get_by_text("There is no backup yet.")).to_be_visible()
    await expect(page.get_by_text("Loading…")).to_have_count(0)
    yield "administration"
    await web_page.context.clear_cookies()
    await page.goto(f"{web_page.base}/sign-in")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    yield "sign-in"


@pytest.mark.parametrize("other", EITHER)
async def test_axe_finds_nothing_and_nothing_is_too_wide(
    library_page: WebPage, library: FilledLibrary, seed: int, other: int
) -> None:
    """In one colour scheme, which the seed chooses, and in the long campaigns in both."""
    scheme = SCHEMES[(seed + other) % 2]
    page = library_page.page
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    found: list[str] = []
    async for view in walk_through_views(library_page, library):
        for width, height in SIZES:
            await page.set_viewport_size({"width": width, "height": height})
            if width != SIZES[1][0]:  # the two phones differ in nothing that axe looks at
                found += [f"{view}, {width}: {violation}" for violation in await list_violations(page)]
            found += await _find_overflow(page, view)
        await page.set_viewport_size({"width": TABLET_WIDTH, "height": TABLET_HEIGHT})
        found += await _find_overflow(page, view)
        await page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})
    assert not found, "\n".join(found)


async def _find_overflow(page: Page, view: str) -> list[str]:
    """By how much something stands beyond its right edge."""
    overflow = await page.evaluate(MEASURE_OVERFLOW)
    return [f"{view}, {page.viewport_size}: {overflow} pixels too wide"] if overflow > 0 else []


async def test_motion_is_reduced_where_the_system_says_so(library_page: WebPage) -> None:
    await library_page.page.emulate_media(reduced_motion="reduce")
    await library_page.open("/")
    await expect(library_page.page.locator(".tile-image.is-loaded").first).to_be_visible()

    longest = await library_page.page.evaluate(
        """() => Math.max(...[...document.querySelectorAll("*")].flatMap((element) => {
          const { transitionDuration, animationDuration, animationName } = getComputedStyle(element);
          return [transitionDuration, animationName === "none" ? "0s" : animationDuration].map(parseFloat);
        }))"""
    )
    assert longest <= 0.01


async def test_everything_is_reached_by_the_keyboard(library_page: WebPage, library: FilledLibrary) -> None:
    page = library_page.page
    await library_page.open("/")
    await expect(page.locator(".tile-image.is-loaded").first).to_be_visible()

    reached = await _tab_through(page)
    assert {"Skip to content", "Photos", "Trash", "Upload", "Account"} <= set(reached)
    await page.locator(".tile-link[tabindex='0']").focus()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Viewer")).to_be_visible()
    first = page.url
    await page.keyboard.press("ArrowRight")
    await expect(page).not_to_have_url(first)
    await page.keyboard.press("Home")
    await page.keyboard.press("u")
    await expect(page.locator("#upload-menu")).to_be_hidden()  # the viewer covers it
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog", name="Viewer")).to_have_count(0)
    assert await page.evaluate("document.activeElement.matches('.tile-link')"), (
        "the focus is where the viewer was opened"
    )

    await page.keyboard.press(" ")
    await expect(page.get_by_role("toolbar", name="Selection")).to_contain_text("1 selected")
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("u")
    await expect(page.get_by_role("button", name="Photos and videos")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator(".tile-link[tabindex='0']")).to_be_focused()


async def _tab_through(page: Page) -> list[str]:
    """The names of all elements that Tab reaches, each of which shows that it has the focus."""
    names: list[str] = []
    await page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        await page.keyboard.press("Tab")
        name, is_marked = await page.evaluate(
            """() => {
              const element = document.activeElement;
              const style = getComputedStyle(element);
              const isMarked = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
              return [element === document.body ? "" : element.getAttribute("aria-label") || element.textContent.trim(), isMarked];
            }"""
        )
        if not name or name in names:
            break
        assert is_marked, f"{name}: the focus is not visible"
        names.append(name)
    return names
