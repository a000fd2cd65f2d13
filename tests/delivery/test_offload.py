"""Which answers are left to a front server: only those of which every server has the same opinion."""

from __future__ import annotations

import pytest

from app.delivery.conditions import parse_conditional_fields
from app.delivery.offload import OffloadablePart, rename_carried_over, select_offloadable_part
from app.storage.ranges import ByteRange

ETAG = '"current"'


def select(fields: list[tuple[str, str]], size: int = 10) -> OffloadablePart | None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
    return select_offloadable_part(parse_conditional_fields(headers), size, ETAG)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("bytes=0-4", 0, 4),
        ("bytes=2-", 2, 9),
        ("bytes=0-", 0, 9),
        ("bytes=-5", 5, 9),
        ("bytes=-15", 0, 9),
        ("bytes=5-1000", 5, 9),
        ("bytes=9-999999999999999999", 9, 9),
    ],
)
def test_a_plain_range_is(text: str, first: int, last: int) -> None:
    expected = OffloadablePart(ByteRange(first, last), is_partial=True)
    assert select([("Range", text)]) == expected
    assert select([("Range", text), ("If-Range", ETAG)]) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("BYTES=0-4", "bytes= 0-4", "bytes=0-4 ", "bytes=0-4,", "bytes=0-0,2-2", "bytes=0-2,2-4", "items=0-4", "bytes=5-4"),
        *("bytes=10-", "bytes=-0", "bytes=0-9999999999999999999", "bytes=-9999999999999999999", "bytes=\xb2-3", "bytes=0-4\n"),
    ],
)  # fmt: skip
def test_another_range_is_not(text: str) -> None:
    assert select([("Range", text)]) is None


@pytest.mark.parametrize(
    "fields",
    [
        [("If-Match", ETAG)],
        [("If-None-Match", '"other"')],
        [("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")],
        [("If-Unmodified-Since", "nonsense")],
        [("Range", "bytes=0-4"), ("If-Range", '"other"')],
        [("Range", "bytes=0-4"), ("If-Range", f"W/{ETAG}")],
        [("Range", "bytes=0-4"), ("If-Range", "Sat, 01 Jan 2000 00:00:00 GMT")],
        [("Range", "bytes=0-4"), ("Range", "bytes=0-4")],
    ],
    ids=str,
)
def test_a_condition_is_not(fields: list[tuple[str, str]]) -> None:
    assert select(fields) is None


def test_the_whole_is_unless_it_is_empty() -> None:
    assert select([]) == select([("If-Range", ETAG)]) == OffloadablePart(ByteRange(0, 9), is_partial=False)
    assert select([], size=0) is None


def test_fields_that_nginx_carries_over_have_other_names() -> None:
    headers = ((b"etag", b"1"), (b"accept-ranges", b"bytes"), (b"cache-control", b"private"))
    renamed = ((b"etag", b"1"), (b"x-offload-accept-ranges", b"bytes"), (b"x-offload-cache-control", b"private"))
    assert rename_carried_over(headers, with_accept_ranges=True) == renamed
    assert rename_carried_over(headers, with_accept_ranges=False) == (renamed[0], renamed[2])
