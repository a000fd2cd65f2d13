"""`split_by_size`: archives keep to the limit, and each asset is in one archive."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.archives.split import split_by_size


def name(number: int) -> UUID:
    return UUID(int=number)


def split_numbers(groups: list[list[tuple[int, int]]], limit: int) -> list[tuple[list[int], int]]:
    parts = split_by_size([[(name(number), size) for number, size in group] for group in groups], limit)
    return [([asset_id.int for asset_id in part.asset_ids], part.size) for part in parts]


def test_an_archive_is_closed_before_it_grows_past_the_limit() -> None:
    assert split_numbers([[(1, 40)], [(2, 40)], [(3, 40)]], 100) == [([1, 2], 80), ([3], 40)]


def test_it_may_be_filled_exactly() -> None:
    assert split_numbers([[(1, 50)], [(2, 50)], [(3, 1)]], 100) == [([1, 2], 100), ([3], 1)]


def test_an_asset_larger_than_the_limit_stands_alone() -> None:
    assert split_numbers([[(1, 10)], [(2, 500)], [(3, 10)]], 100) == [([1], 10), ([2], 500), ([3], 10)]


def test_motion_parts_go_along_and_are_not_repeated() -> None:
    assert split_numbers([[(1, 60)], [(2, 30), (9, 30)], [(9, 30)]], 100) == [([1], 60), ([2, 9], 60)]


def test_a_live_photo_larger_than_the_limit_is_cut() -> None:
    assert split_numbers([[(1, 60), (2, 60)]], 100) == [([1], 60), ([2], 60)]


def test_nothing_gives_nothing() -> None:
    assert split_numbers([], 100) == []


groups = st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 150)), min_size=1, max_size=3), max_size=30)


@given(groups, st.integers(1, 200))
def test_no_archive_exceeds_the_limit_unless_it_is_one_asset(groups: list[list[tuple[int, int]]], limit: int) -> None:
    parts = split_numbers(groups, limit)
    held = [asset for part, _ in parts for asset in part]
    assert len(held) == len(set(held))
    assert set(held) == {asset for group in groups for asset, _ in group}
    for part, size in parts:
        assert size <= limit or len(part) == 1
