"""How an upload is cut into parts."""

from __future__ import annotations

import pytest

from app.storage.s3.part_sizes import MAXIMUM_PART_BYTES, MAXIMUM_PARTS, MINIMUM_PART_BYTES, choose_part_size

MIB = 1024 * 1024
GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, MINIMUM_PART_BYTES),
        (0, MINIMUM_PART_BYTES),
        (GIB, MINIMUM_PART_BYTES),
        (9_000 * 8 * MIB, MINIMUM_PART_BYTES),
        (9_000 * 8 * MIB + 1, 8 * MIB + 1),
        (140 * GIB, 16_702_651),
        (150 * GIB, MAXIMUM_PART_BYTES),
    ],
)
def test_part_sizes(size: int | None, expected: int) -> None:
    assert choose_part_size(size) == expected


@pytest.mark.parametrize("size", [GIB, 70 * GIB, 100 * GIB, 140 * GIB, MAXIMUM_PARTS * MAXIMUM_PART_BYTES])
def test_parts_are_of_the_sizes_and_the_number_that_s3_takes(size: int) -> None:
    part = choose_part_size(size)

    assert 5 * MIB <= part <= 5 * GIB
    assert -(-size // part) <= 10_000
