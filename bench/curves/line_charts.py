"""Draws curves as SVG: one small chart for each kind of work, with logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]
"""Where a point of a curve is in its chart."""

WIDTH, HEIGHT, COLUMNS = 300, 210, 3
LEFT, RIGHT, TOP, BOTTOM = 62, 28, 30, 30
COLORS = ("#2563eb", "#d97706", "#059669")
GREY = "#888888"
REFERENCE = "n log n"


@dataclass(frozen=True, slots=True)
class Chart:
    """`lines` by name. `unit` is that of the values. `has_reference`: with a line of n log n, from the highest first value."""

    title: str
    unit: str
    lines: Mapping[str, Points]
    has_reference: bool = True


def draw(charts: Sequence[Chart], names: Sequence[str]) -> str:
    """One SVG document with all charts in rows. `names` of lines, for their colours."""
    rows = math.ceil(len(charts) / COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + 24
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, chart in enumerate(charts):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_draw_chart(chart, names)}</g>')
    references = [(REFERENCE, GREY)] if any(chart.has_reference for chart in charts) else []
    for number, (name, color) in enumerate([*zip(names, COLORS, strict=False), *references]):
        at = 20 + number * 150
        parts.append(f'<rect x="{at}" y="{height - 16}" width="12" height="4" fill="{color}"/>')
        parts.append(f'<text x="{at + 18}" y="{height - 10}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _draw_chart(chart: Chart, names: Sequence[str]) -> str:
    points = [point for line in chart.lines.values() for point in line]
    lowest_x, highest_x = (choose(x for x, _ in points) for choose in (min, max))
    low = math.floor(math.log10(max(min(y for _, y in points), 1e-9)))
    high = max(low + 1, math.ceil(math.log10(max(y for _, y in points))))

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / lowest_x) / (math.log(highest_x / lowest_x) or 1)
        up = (math.log10(max(y, 1e-9)) - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="18" font-weight="bold">{escape(chart.title)}</text>']
    for exponent in range(low, high + 1):
        _, y = place(lowest_x, 10**exponent)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e5e5e5"/>')
        label = f"{10**exponent:,g} {chart.unit}"
        parts.append(f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end" font-size="9">{label}</text>')
    for x in sorted({x for x, _ in points}):
        at, _ = place(x, 10**low)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 14}" text-anchor="middle" font-size="9">{x:,.0f}</text>')
    if chart.has_reference and highest_x > lowest_x:
        parts.append(_draw_line(_reference(chart, 10**high), place, GREY, ' stroke-dasharray="3 3"'))
    parts += [
        _draw_line(line, place, COLORS[names.index(name)], "") + _draw_dots(line, place, COLORS[names.index(name)])
        for name, line in chart.lines.items()
    ]
    return "".join(parts)


def _reference(chart: Chart, highest: float) -> Points:
    """n log n from the first value, as far as it fits."""
    first_x, first_y = max((line[0] for line in chart.lines.values()), key=lambda point: point[1])
    last_x = max(x for line in chart.lines.values() for x, _ in line)
    steps = [first_x * (last_x / first_x) ** (step / 40) for step in range(41)]
    curve = [(x, first_y * x * math.log(x) / (first_x * math.log(first_x))) for x in steps]
    return [(x, y) for x, y in curve if y <= highest]


def _draw_line(line: Points, place: Place, color: str, style: str) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in line))
    return f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.5"{style}/>'


def _draw_dots(line: Points, place: Place, color: str) -> str:
    return "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in (place(*point) for point in line)
    )
