"""Zooming and moving a picture on its stage."""

from __future__ import annotations

import random
from typing import Any

from tests.real.page_modules import run_modules

ZOOM = """
  const { fitPicture, limitZoom, WHOLE, zoomAt } = await load("viewer/zoom.js");
  const { ratio, stage, steps } = value;
  const picture = fitPicture(ratio, stage);
  let zoom = WHOLE;
  return steps.map(({ factor, point, step }) => {
    const before = zoom;
    zoom = zoomAt(zoom, factor, point, 8);
    const unlimited = zoom;
    zoom = limitZoom({ ...zoom, x: zoom.x + step.x, y: zoom.y + step.y }, picture, stage);
    return { before, unlimited, zoom, picture };
  });
"""


def _zoom(dice: random.Random, ratio: float, stage: dict[str, int]) -> list[dict[str, Any]]:
    steps = [
        {
            "factor": dice.uniform(0.5, 2),
            "point": {"x": dice.randint(-400, 400), "y": dice.randint(-300, 300)},
            "step": {"x": dice.randint(-900, 900), "y": dice.randint(-900, 900)},
        }
        for _ in range(60)
    ]
    results = run_modules(ZOOM, {"ratio": ratio, "stage": stage, "steps": steps})
    return [result | {"step": step} for result, step in zip(results, steps, strict=True)]


def test_what_lies_under_the_pointer_stays_there(seed: int) -> None:
    for result in _zoom(random.Random(seed), 1.5, {"width": 800, "height": 600}):
        before, after, point = result["before"], result["unlimited"], result["step"]["point"]
        for axis in ("x", "y"):
            under = (point[axis] - before[axis]) / before["scale"]
            assert abs(under * after["scale"] + after[axis] - point[axis]) < 1e-6


def test_a_picture_never_leaves_the_stage(seed: int) -> None:
    for ratio in (0.3, 1, 1.5, 5):
        stage = {"width": 800, "height": 600}
        for result in _zoom(random.Random(seed), ratio, stage):
            zoom, picture = result["zoom"], result["picture"]
            assert 1 <= zoom["scale"] <= 8
            assert picture["width"] <= stage["width"]
            assert picture["height"] <= stage["height"] + 1e-9
            for axis, side in (("x", "width"), ("y", "height")):
                spare = max(0.0, (picture[side] * zoom["scale"] - stage[side]) / 2)
                assert abs(zoom[axis]) <= spare + 1e-6
