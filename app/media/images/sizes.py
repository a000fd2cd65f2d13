"""Sizes of derivatives, and the geometry of square crops. Pure. Edges in pixels."""

from __future__ import annotations

PREVIEW_EDGE = 1440
THUMBNAIL_EDGE = 250
SQUARE_EDGE = 250
"""All three are short edges."""


def fit_size(width: int, height: int, short_edge: int, long_edge: int) -> tuple[int, int]:
    """Scale to a short edge of `short_edge`, or smaller so that the long edge is at most `long_edge`. Never enlarges."""
    scale = min(1.0, short_edge / min(width, height), long_edge / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def compute_square(
    box: tuple[float, float, float, float] | None, width: int, height: int
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a square in a picture of `width` x `height`. The square lies around the middle of `box` (fractions of the
    picture), has its longer edge, and is moved and cut to lie inside the picture. For None: the largest square in the middle."""
    if box is None:
        edge = min(width, height)
        middle = (width / 2, height / 2)
    else:
        left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in box)
        edge = max(1.0, min(max((right - left) * width, (bottom - top) * height), width, height))
        middle = ((left + right) / 2 * width, (top + bottom) / 2 * height)
    left = min(max(middle[0] - edge / 2, 0.0), width - edge)
    top = min(max(middle[1] - edge / 2, 0.0), height - edge)
    return left, top, left + edge, top + edge
