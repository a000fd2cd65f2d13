"""Scrolling over more pixels than a browser lets an element have, and corrections above the screen."""

from __future__ import annotations

import random

from tests.real.page_modules import run_modules

SCROLL = """
  const { ScrollSpace } = await load("library/grid/scroll-space.js");
  const spacer = { style: {} };
  let position = 0;
  const scroller = {
    clientHeight: 800,
    get scrollTop() { return position; },
    set scrollTop(top) { position = Math.min(Math.max(top, 0), Math.max(0, parseFloat(spacer.style.height) - 800)); },
  };
  const space = new ScrollSpace(scroller, spacer);
  return value.map(({ kind, amount, height }) => {
    const before = { top: space.top, origin: space.origin, position };
    if (kind === "resize") space.resize(height, amount);
    if (kind === "move") space.moveTo(amount);
    if (kind === "scroll") { scroller.scrollTop += amount; space.read(); }
    if (kind === "settle") space.settle();
    return { before, top: space.top, end: space.end, origin: space.origin, position, spacer: parseFloat(spacer.style.height), isNearEdge: space.isNearEdge() };
  });
"""
HUGE = 45_000_000
"""Pixels of a million photos on a phone."""
LARGEST_ELEMENT = 17_895_697
"""Pixels that Firefox lets an element have; Chromium has twice that."""


def test_a_million_photos_fit() -> None:
    steps = [{"kind": "resize", "height": HUGE, "amount": 0}]
    steps += [{"kind": "move", "amount": HUGE * share} for share in (0, 0.25, 0.5, 0.999, 1)]

    results = run_modules(SCROLL, steps)

    for step, result in zip(steps[1:], results[1:], strict=True):
        assert abs(result["top"] - min(step["amount"], HUGE - 800)) <= 1
        assert result["spacer"] <= LARGEST_ELEMENT


def test_a_correction_above_the_screen_moves_nothing_on_it(seed: int) -> None:
    dice = random.Random(seed)
    height = 200_000
    steps: list[dict[str, object]] = [
        {"kind": "resize", "height": height, "amount": 0},
        {"kind": "move", "amount": 100_000},
    ]
    for _ in range(50):
        correction = dice.randrange(-1000, 1000)
        height += correction
        steps += [
            {"kind": "resize", "height": height, "amount": correction},
            {"kind": "scroll", "amount": dice.randrange(-300, 300)},
        ]

    results = run_modules(SCROLL, steps)

    for step, result in zip(steps[2:], results[2:], strict=True):
        if step["kind"] == "resize":
            assert result["position"] == result["before"]["position"], "a gesture that goes on is not disturbed"
            assert abs(result["top"] - result["before"]["top"] - float(str(step["amount"]))) < 0.01


def test_both_ends_are_reached_after_corrections() -> None:
    steps = [{"kind": "resize", "height": HUGE, "amount": 0}, {"kind": "move", "amount": HUGE / 2}]
    steps += [{"kind": "resize", "height": HUGE + 9_000 * number, "amount": 9_000} for number in range(1, 20)]
    down = [{"kind": "scroll", "amount": 100_000}, {"kind": "settle"}] * 700
    up = [{"kind": "scroll", "amount": -100_000}, {"kind": "settle"}] * 900

    results = run_modules(SCROLL, [*steps, *down, *up])

    bottom = results[len(steps) + len(down) - 1]
    assert bottom["top"] == bottom["end"]
    assert results[-1]["top"] == 0
