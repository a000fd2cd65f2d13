"""Draws the ratios of `make bench` as one SVG: how far each is from its goal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, ROW_HEIGHT, TOP, BOTTOM = 960, 20, 34, 26
LEFT, RIGHT = 520, 70
SMALLEST, LARGEST = 0.125, 8.0
"""A bar ends here at most; its figure tells the rest."""

MET, MISSED, GREY = "#059669", "#d97706", "#888888"


@dataclass(frozen=True, slots=True)
class MeasuredRatio:
    """`distance`: the ratio over its goal, or the goal over the ratio where less is better. From 1 on the goal is met."""

    work: str
    peer: str
    ratio: float
    distance: float


def draw_ratios(ratios: Sequence[MeasuredRatio]) -> str:
    """One bar for each ratio that has a goal, from the line of the goal to the right (better) or to the left."""
    height = TOP + ROW_HEIGHT * len(ratios) + BOTTOM
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_place(1.0):.1f}" y="16" text-anchor="middle" font-weight="bold">goal</text>',
    ]
    for times in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0):
        at, color = _place(times), GREY if times == 1.0 else "#e5e5e5"
        parts.append(f'<path d="M{at:.1f} {TOP - 8}V{height - BOTTOM + 4}" stroke="{color}"/>')
        label = f"{times:g} times" if times != 1.0 else "met"
        parts.append(f'<text x="{at:.1f}" y="{height - 8}" text-anchor="middle" font-size="9">{label}</text>')
    for number, each in enumerate(ratios):
        parts.append(_draw_bar(each, TOP + number * ROW_HEIGHT))
    return "\n".join([*parts, "</svg>", ""])


def _draw_bar(measured: MeasuredRatio, top: int) -> str:
    goal, end = _place(1.0), _place(measured.distance)
    is_met = measured.distance >= 1.0
    x, width = min(goal, end), max(abs(end - goal), 1.0)
    label = f"{escape(measured.work)} · {escape(measured.peer)}"
    return (
        f'<text x="{LEFT - 8}" y="{top + 11}" text-anchor="end">{label}</text>'
        f'<rect x="{x:.1f}" y="{top + 1}" width="{width:.1f}" height="13" fill="{MET if is_met else MISSED}"/>'
        f'<text x="{WIDTH - 8}" y="{top + 11}" text-anchor="end">{measured.ratio:.2f}</text>'
    )


def _place(distance: float) -> float:
    within = min(max(distance, SMALLEST), LARGEST)
    across = math.log(within / SMALLEST) / math.log(LARGEST / SMALLEST)
    return LEFT + across * (WIDTH - LEFT - RIGHT)
