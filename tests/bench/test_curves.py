"""Curves are drawn as well-formed SVG, and none of those in bench/results grows faster than n log n."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET

import pytest

from bench.curves.line_charts import COLORS, Chart, draw
from bench.report import RESULTS

NOISE = 1.5
"""The measurements of a busy machine differ by so much."""
SVG = "{http://www.w3.org/2000/svg}"


def test_each_line_has_its_points_and_colour() -> None:
    lines = {"a": [(10, 0.5), (1000, 70)], "b & c": [(10, 2), (1000, 2)]}
    svg = ET.fromstring(draw([Chart("search < list", "ms", lines)], ["a", "b & c"]))

    dots = [(dot.get("fill"), float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in svg.iter(f"{SVG}circle")]
    assert [color for color, _, _ in dots] == [COLORS[0]] * 2 + [COLORS[1]] * 2
    first, last, *level = dots
    assert first[1] < last[1]
    assert first[2] > last[2], "more is higher"
    assert level[0][2] == level[1][2]
    assert {"search < list", "a", "b & c", "10", "1,000"} <= {text.text for text in svg.iter(f"{SVG}text")}


@pytest.mark.parametrize("database", ["in SQLite", "in PostgreSQL"])
def test_no_measured_cost_grows_faster_than_n_log_n(database: str) -> None:
    name = f"curves-{database.removeprefix('in ').lower()}.json"
    curves = json.loads((RESULTS / name).read_text(encoding="utf-8"))["cpu_seconds"]
    assert len(curves) > 10
    for work, points in curves.items():
        (first, least), (last, most) = points[0], points[-1]
        allowed = (last * math.log(last)) / (first * math.log(first))
        assert most / least <= allowed * NOISE, (work, points)
