"""`ByteRange`: validity, length, and clamping to an object's size."""

from __future__ import annotations

import pytest

from app.storage.ranges import ByteRange


@pytest.mark.parametrize(("first", "last"), [(-1, None), (-1, 5), (3, 2), (0, -1)])
def test_no_range(first: int, last: int | None) -> None:
    with pytest.raises(ValueError, match=f"no byte range: {first}-{last}"):
        ByteRange(first, last)


@pytest.mark.parametrize(
    ("first", "last", "size", "clamped"),
    [
        (0, None, 10, (0, 9)),
        (9, None, 10, (9, 9)),
        (0, 8, 10, (0, 8)),
        (0, 9, 10, (0, 9)),
        (0, 10, 10, (0, 9)),
        (9, 10, 10, (9, 9)),
        (10, 10, 10, None),
        (10, None, 10, None),
        (11, 12, 10, None),
        (0, None, 0, None),
        (0, 0, 1, (0, 0)),
    ],
)
def test_what_an_object_has_of_a_range(
    first: int, last: int | None, size: int, clamped: tuple[int, int] | None
) -> None:
    found = ByteRange(first, last).clamp(size)
    assert found == (None if clamped is None else ByteRange(*clamped))
    if found is not None and clamped is not None:
        assert found.length == clamped[1] - clamped[0] + 1


def test_an_open_range_has_no_length() -> None:
    with pytest.raises(ValueError, match="an open range has no length"):
        _ = ByteRange(3).length
