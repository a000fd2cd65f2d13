"""ThumbHashes equal those of the reference implementation (npm's thumbhash 0.1.1, by the author of the format)."""

from __future__ import annotations

import pytest

from app.media.images.thumbhash import thumbhash

REFERENCE = [
    ((100, 75), "df07060d8266676647389036266c7556af97f8eca0"),
    ((75, 100), "1f08060d0435866729260653555759668bcb90b409"),
    ((100, 100), "df07060f0264746867986237076465757656c68a6fd4fe0e"),
    ((1, 1), "98b031d71508f708888788708f7088f80888707ff8f7870f"),
    ((100, 1), "56a72e39aa768678888808896f886c8708"),
    ((3, 100), "9a270a2910849018888974586092e37804"),
    ((64, 63), "1f08060f8467637563707935b75786587575f556da8f730a"),
    ((17, 5), "cae805128680878894888888506304b785"),
]
"""Size in pixels, and the reference implementation's hash of `pattern` of that size."""


@pytest.mark.parametrize(("size", "expected"), REFERENCE, ids=str)
def test_equals_the_reference(size: tuple[int, int], expected: str) -> None:
    assert thumbhash(*size, pattern(*size)).hex() == expected


@pytest.mark.parametrize("size", [(0, 0), (101, 1), (1, 101)])
def test_refuses_sizes_that_are_not_defined(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="pixels"):
        thumbhash(*size, bytes(3 * size[0] * size[1]))


def test_refuses_pixels_that_do_not_fill_the_picture() -> None:
    with pytest.raises(ValueError, match="in 11 bytes"):
        thumbhash(2, 2, bytes(11))


def pattern(width: int, height: int) -> bytes:
    return bytes(
        value % 256
        for y in range(height)
        for x in range(width)
        for value in (5 * x + 3 * y, x * y + 40, 255 + 2 * x + y * y)
    )
