"""The range parser: a table of cases, and properties that hold for every field (hypothesis)."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.delivery.range_header import (
    MAX_FIELD_CHARACTERS,
    MAX_RANGES,
    RangeResult,
    coalesce_ranges,
    parse_range_header,
    parse_range_set,
)
from app.storage.ranges import ByteRange
from tests.delivery.range_cases import RANGE_CASES, RangeCase
from tests.real.ids import plain_id

ONE_FIELD = [case for case in RANGE_CASES if len(case.fields) <= 1]


def pairs(selection: RangeResult | tuple[ByteRange, ...]) -> list[tuple[int, int | None]]:
    assert isinstance(selection, tuple)
    return [(item.first, item.last) for item in selection]


@pytest.mark.parametrize("case", ONE_FIELD, ids=plain_id)
def test_table_on_ten_bytes(case: RangeCase) -> None:
    selection = parse_range_header(case.fields[0] if case.fields else None, 10)
    if case.parts:
        assert pairs(selection) == list(case.parts)
    else:
        assert selection is (RangeResult.UNSATISFIABLE if case.unsatisfiable else RangeResult.WHOLE)


@pytest.mark.parametrize("case", ONE_FIELD, ids=plain_id)
def test_an_empty_file_is_always_whole(case: RangeCase) -> None:
    assert parse_range_header(case.fields[0] if case.fields else None, 0) is RangeResult.WHOLE


def test_one_position_behind_the_end_is_unsatisfiable() -> None:
    assert parse_range_header("bytes=20-20", 10) is RangeResult.UNSATISFIABLE


@pytest.mark.parametrize("field", ["Xbytes=0-1", "bytes=0-1X", "bytes=X0-1", "bytes=0-1,2-3X", "bytes=0-1,X2-3"])
def test_only_spaces_and_tabs_are_ignored(field: str) -> None:
    assert parse_range_header(field, 10) is RangeResult.WHOLE


def test_a_field_of_just_the_longest_length_is_read() -> None:
    field = "bytes=0-1,4-5".ljust(MAX_FIELD_CHARACTERS, ",")
    assert pairs(parse_range_header(field, 10)) == [(0, 1), (4, 5)]
    assert parse_range_header(field + ",", 10) is RangeResult.WHOLE


@pytest.mark.parametrize("last", [0, 1, 2**31, 2**32 + 7, 2**63 - 1])
def test_large_files(last: int) -> None:
    assert pairs(parse_range_header(f"bytes={last}-{last}", last + 1)) == [(last, last)]
    assert pairs(parse_range_header("bytes=-1", last + 1)) == [(last, last)]
    assert parse_range_header(f"bytes={last + 1}-", last + 1) is RangeResult.UNSATISFIABLE


def test_a_hundred_ranges_are_served_and_one_more_is_not() -> None:
    spread = [f"{2 * n}-{2 * n}" for n in range(MAX_RANGES + 1)]
    assert len(pairs(parse_range_header("bytes=" + ",".join(spread[:-1]), 1000))) == MAX_RANGES
    assert parse_range_header("bytes=" + ",".join(spread), 1000) is RangeResult.WHOLE


@pytest.mark.parametrize("filler", ["0-,", "-", ",", " ", "9", "0-0,", "=", "\t,"])
def test_hostile_fields_cost_no_time(filler: str) -> None:
    field = "bytes=" + filler * (4_000_000 // len(filler)) + "x"
    started = time.process_time()
    assert parse_range_header(field, 10) is RangeResult.WHOLE
    assert parse_range_header(field[:16_000], 10) is not None
    assert time.process_time() - started < 0.25


positions = st.one_of(st.integers(0, 40), st.integers(0, 10**25))
texts = st.one_of(
    st.builds("{}-{}".format, positions, positions),
    st.builds("{}-".format, positions),
    st.builds("-{}".format, positions),
    st.sampled_from(["", " ", "-", "5-4", "a-b", " 1-2", "\u0661-2", "00-00", "\xb2-"]),
)
fields = st.one_of(
    st.builds(
        "{}{}".format,
        st.sampled_from(["bytes=", "Bytes=", " bytes=", "items="]),
        st.lists(texts, max_size=5).map(",".join),
    ),
    st.text(max_size=30),
)


@given(fields, st.integers(0, 50))
@example("bytes=9-4", 5)
@example("bytes=4-9\n", 20)
def test_the_short_cut_answers_as_the_general_way(field: str, size: int) -> None:
    assert parse_range_header(field, size) == parse_range_set(field, size)


@given(fields, st.integers(0, 50))
def test_ranges_lie_within_the_file_and_apart(field: str, size: int) -> None:
    selection = parse_range_header(field, size)
    if isinstance(selection, RangeResult):
        return
    assert selection
    taken: set[int] = set()
    for item in selection:
        assert item.last is not None
        assert 0 <= item.first <= item.last < size
        around = set(range(item.first - 1, item.last + 2))
        assert not taken & around
        taken |= set(range(item.first, item.last + 1))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), min_size=1, max_size=12))
def test_coalescing_keeps_every_byte_asked_for_and_no_other(spans: list[tuple[int, int]]) -> None:
    asked = [ByteRange(first, first + more) for first, more in spans]
    joined = coalesce_ranges(asked)
    bytes_asked = {n for first, more in spans for n in range(first, first + more + 1)}
    bytes_served = [n for first, last in pairs(joined) for n in range(first, (last or 0) + 1)]
    assert len(bytes_served) == len(set(bytes_served))
    assert set(bytes_served) == bytes_asked


@given(st.lists(st.integers(0, 30), min_size=1, max_size=15, unique=True))
def test_ranges_apart_stay_in_the_order_asked(places: list[int]) -> None:
    asked = [ByteRange(3 * place, 3 * place + 1) for place in places]
    assert coalesce_ranges(asked) == tuple(asked)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_slices_served_are_slices_of_the_bytes(content: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(content) - 1))
    last = data.draw(st.integers(first, len(content) + 10))
    suffix = data.draw(st.integers(1, len(content) + 10))

    def served(field: str) -> bytes:
        (item,) = parse_range_header(field, len(content))  # pyright: ignore[reportGeneralTypeIssues]
        assert item.first + item.length <= len(content), "a slice would hide it"
        return content[item.first : item.first + item.length]

    assert served(f"bytes={first}-{last}") == content[first : last + 1]
    assert served(f"bytes={first}-") == content[first:]
    assert served(f"bytes=-{suffix}") == content[-suffix:]
