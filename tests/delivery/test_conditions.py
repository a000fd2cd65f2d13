"""Conditional requests as a table (RFC 9110 section 13), entity tags, and HTTP dates."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.delivery.conditions import (
    ConditionResult,
    evaluate_conditions,
    is_range_applicable,
    may_redirect,
    parse_conditional_fields,
    parse_http_date,
)
from tests.real.ids import plain_id

ETAG = '"a,b\\c"'
"""An entity tag that contains a comma and a backslash."""
MODIFIED = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
RFC_850 = "Sunday, 06-Nov-94 08:49:37 GMT"
ASCTIME = "Sun Nov  6 08:49:37 1994"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"

Fields = list[tuple[str, str]]


def raw(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]


PROCEED, NOT_MODIFIED, FAILED = ConditionResult.PROCEED, ConditionResult.NOT_MODIFIED, ConditionResult.FAILED

VERDICTS: list[tuple[Fields, ConditionResult]] = [
    ([], PROCEED),
    ([("Range", "bytes=0-1"), ("Accept", "*/*")], PROCEED),
    # If-Match: strong
    ([("If-Match", ETAG)], PROCEED),
    ([("If-Match", "*")], PROCEED),
    ([("If-Match", " * ")], PROCEED),
    ([("If-Match", f'"x", {ETAG}')], PROCEED),
    ([("If-Match", f'"x",{ETAG},"y"')], PROCEED),
    ([("If-Match", f'"x" ,\t, {ETAG}')], PROCEED),
    ([("If-Match", '"x"'), ("If-Match", ETAG)], PROCEED),
    ([("If-Match", f"W/{ETAG}")], FAILED),
    ([("If-Match", '"x"')], FAILED),
    ([("If-Match", '"a"')], FAILED),
    ([("If-Match", "a,b\\c")], FAILED),
    ([("If-Match", "")], FAILED),
    ([("If-Match", '"unclosed')], FAILED),
    ([("If-Match", f'"x" {ETAG}')], FAILED),
    # If-Unmodified-Since, only without If-Match
    ([("If-Unmodified-Since", DATE)], PROCEED),
    ([("If-Unmodified-Since", AFTER)], PROCEED),
    ([("If-Unmodified-Since", BEFORE)], FAILED),
    ([("If-Unmodified-Since", "yesterday")], PROCEED),
    ([("If-Unmodified-Since", BEFORE), ("If-Unmodified-Since", BEFORE)], PROCEED),
    ([("If-Match", ETAG), ("If-Unmodified-Since", BEFORE)], PROCEED),
    ([("If-Match", '"x"'), ("If-Unmodified-Since", AFTER)], FAILED),
    # If-None-Match: weak
    ([("If-None-Match", ETAG)], NOT_MODIFIED),
    ([("If-None-Match", f"W/{ETAG}")], NOT_MODIFIED),
    ([("If-None-Match", f"w/{ETAG}")], PROCEED),
    ([("If-None-Match", "*")], NOT_MODIFIED),
    ([("If-None-Match", f'W/"x", "y" , {ETAG}')], NOT_MODIFIED),
    ([("If-None-Match", '"x"'), ("If-None-Match", ETAG)], NOT_MODIFIED),
    ([("If-None-Match", '"x", "y"')], PROCEED),
    ([("If-None-Match", ETAG.upper())], PROCEED),
    ([("If-None-Match", f"bare, {ETAG}")], PROCEED),
    # If-Modified-Since, only without If-None-Match
    ([("If-Modified-Since", DATE)], NOT_MODIFIED),
    ([("If-Modified-Since", RFC_850)], NOT_MODIFIED),
    ([("If-Modified-Since", ASCTIME)], NOT_MODIFIED),
    ([("If-Modified-Since", AFTER)], NOT_MODIFIED),
    ([("If-Modified-Since", BEFORE)], PROCEED),
    ([("If-Modified-Since", "Sun, 32 Nov 1994 08:49:37 GMT")], PROCEED),
    ([("If-Modified-Since", "1994-11-06T08:49:37Z")], PROCEED),
    ([("If-None-Match", '"x"'), ("If-Modified-Since", AFTER)], PROCEED),
    ([("If-None-Match", ETAG), ("If-Modified-Since", BEFORE)], NOT_MODIFIED),
    # order: 412 comes before 304
    ([("If-Match", '"x"'), ("If-None-Match", ETAG)], FAILED),
    ([("If-Match", ETAG), ("If-None-Match", ETAG)], NOT_MODIFIED),
    ([("If-Unmodified-Since", BEFORE), ("If-Modified-Since", AFTER)], FAILED),
    # If-Range is no condition by itself
    ([("If-Range", '"x"')], PROCEED),
]


@pytest.mark.parametrize(("fields", "verdict"), VERDICTS, ids=plain_id)
def test_verdicts(fields: Fields, verdict: ConditionResult) -> None:
    assert evaluate_conditions(parse_conditional_fields(raw(fields)), ETAG, MODIFIED) is verdict


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], False),
        ([("Range", "bytes=0-1")], True),
        ([("Range", "bytes=0-1"), ("Range", "bytes=0-1")], False),
        ([("If-Range", ETAG)], False),
        ([("Range", "bytes=0-1"), ("If-Range", ETAG)], True),
        ([("Range", "bytes=0-1"), ("If-Range", f" {ETAG} ")], True),
        ([("Range", "bytes=0-1"), ("If-Range", f"W/{ETAG}")], False),
        ([("Range", "bytes=0-1"), ("If-Range", '"x"')], False),
        ([("Range", "bytes=0-1"), ("If-Range", f'{ETAG}, "x"')], False),
        ([("Range", "bytes=0-1"), ("If-Range", ETAG), ("If-Range", ETAG)], False),
        ([("Range", "bytes=0-1"), ("If-Range", "*")], False),
        ([("Range", "bytes=0-1"), ("If-Range", "")], False),
        ([("Range", "bytes=0-1"), ("If-Range", DATE)], True),
        ([("Range", "bytes=0-1"), ("If-Range", ASCTIME)], True),
        ([("Range", "bytes=0-1"), ("If-Range", AFTER)], False),
        ([("Range", "bytes=0-1"), ("If-Range", BEFORE)], False),
        ([("Range", "bytes=0-1"), ("If-Range", "Sun, 06 Nov 1994")], False),
    ],
    ids=plain_id,
)
def test_when_a_range_counts(fields: Fields, expected: bool) -> None:
    assert is_range_applicable(parse_conditional_fields(raw(fields)), ETAG, MODIFIED) is expected


@pytest.mark.parametrize("around", ["\x0b", "\xa0", "X"], ids=["vertical tab", "no-break space", "letter"])
def test_only_spaces_and_tabs_around_a_value_are_ignored(around: str) -> None:
    for field, value in (("If-Match", "*"), ("If-None-Match", "*"), ("If-Range", ETAG)):
        plain, odd = (
            parse_conditional_fields(raw([("Range", "bytes=0-"), (field, f"{each}{value}{each}")]))
            for each in (" \t", around)
        )
        if field == "If-Range":
            assert (is_range_applicable(plain, ETAG, MODIFIED), is_range_applicable(odd, ETAG, MODIFIED)) == (
                True,
                False,
            )
        else:
            assert evaluate_conditions(plain, ETAG, MODIFIED) is not evaluate_conditions(odd, ETAG, MODIFIED)


@pytest.mark.parametrize(
    ("field", "in_1990", "in_2020"),
    [("If-Modified-Since", PROCEED, NOT_MODIFIED), ("If-Unmodified-Since", FAILED, PROCEED)],
)
def test_two_digits_of_a_year_go_by_the_clock(field: str, in_1990: ConditionResult, in_2020: ConditionResult) -> None:
    """The file is of 2020; year 44 is 1944 in 1990, and 2044 in 2020."""
    fields = parse_conditional_fields(raw([("Accept", "*/*"), (field, "Sunday, 06-Nov-44 08:49:37 GMT")]))
    modified = 1577836800
    for year, expected in ((1990, in_1990), (2020, in_2020)):
        assert (
            evaluate_conditions(fields, ETAG, modified, lambda year=year: datetime(year, 1, 1, tzinfo=UTC)) is expected
        )


@pytest.mark.parametrize(("year", "expected"), [(2001, True), (2050, False)])
def test_two_digits_of_a_year_in_if_range_go_by_the_clock(year: int, expected: bool) -> None:
    fields = parse_conditional_fields(raw([("Range", "bytes=0-"), ("If-Range", RFC_850)]))
    assert is_range_applicable(fields, ETAG, MODIFIED, lambda: datetime(year, 1, 1, tzinfo=UTC)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DATE, MODIFIED),
        (RFC_850, MODIFIED),
        (ASCTIME, MODIFIED),
        ("Sun Nov 16 08:49:37 1994", MODIFIED + 10 * 86400),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),
        ("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
        # 50 years ahead is the future, more is the past
        ("Friday, 01-Jan-76 00:00:00 GMT", 3345062400),
        ("Friday, 01-Jan-77 00:00:00 GMT", 220924800),
        ("", None),
        ("0", None),
        ("Thu, 29 Feb 2023 00:00:00 GMT", None),
        ("Sun, 00 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:60:00 GMT", None),
        ("Sun, 06 Nov 1994 08:00:61 GMT", None),
        ("Sun, 06 Nov 0000 08:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        (f"{DATE}, {DATE}", None),
        (f" \t{DATE}\t ", MODIFIED),
        (f"\x0b{DATE}", None),
        (f"X{DATE}", None),
        ("Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_dates(text: str, expected: int | None) -> None:
    assert parse_http_date(text, lambda: datetime(2026, 11, 23, tzinfo=UTC)) == expected


@given(st.integers(-(10**10), 10**11))
def test_dates_as_others_write_them(seconds: int) -> None:
    assert parse_http_date(formatdate(seconds, usegmt=True)) == seconds


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=60))
@example("\n")
@example('"a"\n')
def test_any_text_is_answered(text: str) -> None:
    names = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range")
    fields = parse_conditional_fields(raw([(name, text) for name in names]))
    assert evaluate_conditions(fields, ETAG, MODIFIED) in ConditionResult
    assert is_range_applicable(fields, ETAG, MODIFIED) in (True, False)


def test_long_lists_take_linear_time() -> None:
    tags = ", ".join(f'"{n}"' for n in range(50_000))
    assert evaluate_conditions(parse_conditional_fields(raw([("If-None-Match", tags)])), ETAG, MODIFIED) is PROCEED
    assert (
        evaluate_conditions(parse_conditional_fields(raw([("If-None-Match", f"{tags}, {ETAG}")])), ETAG, MODIFIED)
        is NOT_MODIFIED
    )
    assert (
        evaluate_conditions(parse_conditional_fields(raw([("If-None-Match", " " * 200_000 + "x")])), ETAG, MODIFIED)
        is PROCEED
    )
    assert (
        evaluate_conditions(
            parse_conditional_fields(raw([("If-None-Match", ('"x"' + " " * 1000) * 200)])), ETAG, MODIFIED
        )
        is PROCEED
    )


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("GET", [], True),
        ("GET", [("Range", "bytes=0-1")], True),
        ("HEAD", [], False),
        ("GET", [("If-None-Match", '"x"')], False),
        ("GET", [("If-Match", '"x"')], False),
        ("GET", [("If-Modified-Since", DATE)], False),
        ("GET", [("If-Unmodified-Since", DATE)], False),
        ("GET", [("Range", "bytes=0-1"), ("If-Range", '"x"')], False),
        ("POST", [], False),
    ],
)
def test_what_a_link_may_answer(method: str, fields: Fields, expected: bool) -> None:
    assert may_redirect(method, raw(fields)) is expected
