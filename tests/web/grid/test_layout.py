"""Where the tiles of a month stand: justified rows, days side by side, and estimates for months that are not loaded."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from tests.real.page_modules import run_modules

LAY_OUT = """
  const { chooseMetrics, estimateHeight, layoutMonth } = await load("library/grid/layout.js");
  return value.map(({ width, ratios, days }) => {
    const assets = { count: ratios.length, getRatio: (index) => ratios[index], getTime: (index) => days[index] * 86400000 };
    const metrics = chooseMetrics(width);
    const layout = layoutMonth(assets, metrics);
    const boxes = Array.from(layout.boxes);
    return {
      height: layout.height, days: layout.days, metrics, estimate: estimateHeight(ratios.length, metrics),
      boxes: ratios.map((_, index) => boxes.slice(index * 4, index * 4 + 4)),
    };
  });
"""
FIND = """
  const { layoutMonth, chooseMetrics, findFirstBelow } = await load("library/grid/layout.js");
  const assets = { count: 400, getRatio: (index) => 1 + (index % 3) / 2, getTime: (index) => Math.floor(index / 7) * -86400000 };
  const layout = layoutMonth(assets, chooseMetrics(1340));
  return value.map((y) => {
    const wrong = [];
    const first = findFirstBelow(layout, y);
    for (let index = 0; index < 400; index += 1) {
      const bottom = layout.boxes[index * 4 + 1] + layout.boxes[index * 4 + 3];
      if ((bottom > y) !== (index >= first)) wrong.push(index);
    }
    return wrong;
  });
"""
WIDTHS = (304, 374, 700, 1340, 2400)
ROUNDING = 1.5


def _make_months(dice: random.Random) -> list[dict[str, Any]]:
    months: list[dict[str, Any]] = []
    for _ in range(60):
        count = dice.choice([1, 2, 5, 30, 300])
        ratios = [dice.choice([0.01, 0.56, 0.75, 1, 1.33, 1.5, 1.78, 3.2, 40]) for _ in range(count)]
        days = sorted((dice.randrange(31) for _ in range(count)), reverse=True)
        months.append({"width": dice.choice(WIDTHS), "ratios": ratios, "days": days})
    return months


@pytest.fixture
def months(seed: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Months, and how they are laid out."""
    made = _make_months(random.Random(seed))
    return list(zip(made, run_modules(LAY_OUT, made), strict=True))


def test_no_tile_overlaps_another_or_leaves_the_grid(months: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for month, laid in months:
        for x, y, width, height in laid["boxes"]:
            assert width > 0
            assert height > 0
            assert x >= 0
            assert x + width <= month["width"] + ROUNDING
            assert y + height <= laid["height"]
        for one, other in pairwise(laid["boxes"]):
            is_beside = other[0] >= one[0] + one[2] and other[1] == one[1]
            assert is_beside or other[1] >= one[1] + one[3], "the next stands to the right, or below"


def test_full_rows_fill_the_width(months: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for month, laid in months:
        for day in laid["days"]:
            boxes = laid["boxes"][day["start"] : day["end"]]
            rows = {box[1]: [each for each in boxes if each[1] == box[1]] for box in boxes}
            for row in list(rows.values())[:-1]:
                assert abs(row[-1][0] + row[-1][2] - month["width"]) <= ROUNDING


def test_days_have_room_for_their_headings(months: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for month, laid in months:
        assert [day["start"] for day in laid["days"]] == [0, *(day["end"] for day in laid["days"][:-1])]
        for day in laid["days"]:
            same = {month["days"][index] for index in range(day["start"], day["end"])}
            assert len(same) == 1
            assert laid["boxes"][day["start"]][1] >= day["y"] + laid["metrics"]["dayHead"]
        for one, other in pairwise(laid["days"]):
            assert other["y"] > one["y"] or other["x"] >= one["x"] + one["width"]


def test_an_estimate_is_near_the_truth(months: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """What a scrubber and a scroll position stand on until a month is loaded."""
    for _, laid in months:
        assert 0.3 < laid["estimate"] / laid["height"] < 3


def test_a_height_finds_its_tiles() -> None:
    heights = [-10, 0, 103, 104, 105, 500, 2_000, 9_999, 100_000]

    assert run_modules(FIND, heights) == [[] for _ in heights]
