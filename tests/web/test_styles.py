"""The page's style sheets as they are sent say what their sources say. Browsers keep the spaces of values with variables."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser

from app.api.web.source_compaction import compact_style

STYLES = Path(__file__).parents[2] / "app/web/styles"
COMPARE = """(pairs) => pairs.filter(([, source, sent]) => {
  const read = (text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return JSON.stringify([...sheet.cssRules].map((rule) => rule.cssText.replaceAll(", ", ",")));
  };
  return read(source) !== read(sent) || read(sent) === "[]";
}).map(([name]) => name)"""


async def test_chromium_reads_the_same_rules(chromium: Browser) -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in STYLES.glob("*.css")}
    pairs = [[name, source, compact_style(source)] for name, source in sources.items()]
    page = await chromium.new_page()

    assert await page.evaluate(COMPARE, pairs) == []
    await page.close()
