"""axe-core, the rules of accessibility, applied to the page that a browser shows."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from playwright.async_api import Page

_RUN = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.flatMap((rule) => rule.nodes.map((node) => [rule.id, rule.help, node.target.join(" "), node.failureSummary]));
}"""


@cache
def read_axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


async def list_violations(page: Page) -> list[str]:
    """One text for each element that breaks a rule. The script is run by the DevTools protocol, to which the page's policy does not apply."""
    await page.evaluate(f"() => {{ if (!window.axe) {{ {read_axe()} }} }}")
    found: list[Any] = await page.evaluate(_RUN)
    return [" | ".join(" ".join(part.split()) for part in parts) for parts in found]
