"""The page's modules in a browser, where they are joined into one."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser

SCRIPTS = Path(__file__).parents[2] / "app/web/scripts"
EXPORTED = re.compile(r"^export (?:async )?(?:function\*?|class|const) (\w+)", re.MULTILINE)


async def test_no_module_exports_a_name_of_the_browser(chromium: Browser) -> None:
    """A module that means the browser's would get the other one."""
    exported = [name for path in SCRIPTS.rglob("*.js") for name in EXPORTED.findall(path.read_text(encoding="utf-8"))]
    page = await chromium.new_page()

    assert len(exported) > 100
    assert await page.evaluate("names => names.filter((name) => name in window)", exported) == []
    await page.close()
