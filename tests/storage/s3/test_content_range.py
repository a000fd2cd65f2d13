"""`check_content_range`, as a table of responses that stores send."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.storage.errors import RangeNotSatisfiable
from app.storage.ranges import ByteRange
from app.storage.s3.content_range import RangeContent, SizeUnknown, check_content_range
from app.storage.s3.protocol.errors import S3RequestRefused
from app.storage.s3.protocol.responses import UNKNOWN_DATE, UNVERSIONED_ETAG

SIZE = 100
TEN = datetime(2026, 11, 29, 10, tzinfo=UTC)
DATED = {"ETag": '"abc"', "Last-Modified": "Sun, 29 Nov 2026 10:00:00 GMT"}
MIDDLE, WHOLE = ByteRange(10, 19), ByteRange(0, 99)


def check(
    status: int, content_range: str | None, length: int | None, asked: ByteRange | None, size: int | None = None
) -> RangeContent:
    headers = DATED | ({"Content-Range": content_range} if content_range else {})
    return check_content_range("a", status, headers, length, asked, size)


@pytest.mark.parametrize(
    ("status", "content_range", "length", "asked", "served", "skip", "surplus"),
    [
        (200, None, 100, None, WHOLE, 0, False),
        (200, None, 0, None, None, 0, False),
        (206, "bytes 10-19/100", 10, MIDDLE, MIDDLE, 0, False),
        (206, "bytes 90-99/100", 10, ByteRange(90, 500), ByteRange(90, 99), 0, False),
        (206, "bytes 90-99/100", 10, ByteRange(90), ByteRange(90, 99), 0, False),
        (206, "bytes 10-19/100", None, MIDDLE, MIDDLE, 0, False),
        (206, "bytes 0-99/100", 100, None, WHOLE, 0, False),
        # the range, but with 200 (rclone)
        (200, "bytes 10-19/100", 10, MIDDLE, MIDDLE, 0, False),
        (200, "bytes 0-99/100", 100, None, WHOLE, 0, False),
        # more than was requested
        (206, "bytes 0-31/100", 32, MIDDLE, MIDDLE, 10, True),
        (206, "bytes 10-99/100", 90, MIDDLE, MIDDLE, 0, True),
        (206, "bytes 0-19/100", 20, MIDDLE, MIDDLE, 10, False),
        (200, "bytes 0-99/100", 100, MIDDLE, MIDDLE, 10, True),
        # less than was requested: another request reads the rest
        (206, "bytes 10-14/100", 5, MIDDLE, MIDDLE, 0, False),
        # the whole object, unambiguously
        (200, None, 100, ByteRange(0, 500), WHOLE, 0, False),
        (200, None, 100, ByteRange(0), WHOLE, 0, False),
    ],
)
def test_what_is_right_in_an_answer_is_used(
    status: int,
    content_range: str | None,
    length: int | None,
    asked: ByteRange | None,
    served: ByteRange | None,
    skip: int,
    surplus: bool,
) -> None:
    content = check(status, content_range, length, asked)
    assert (content.served, content.skip_bytes, content.has_surplus) == (served, skip, surplus)
    assert content.info.size == length if served is None else SIZE


@pytest.mark.parametrize(
    ("status", "content_range", "length", "asked"),
    [
        (200, None, 100, MIDDLE),
        (200, None, 10, MIDDLE),
        (200, None, 10, ByteRange(0, 9)),
        (200, None, None, None),
        (206, "bytes 10-19/*", 10, MIDDLE),
    ],
)
def test_a_size_that_is_not_told_for_sure_is_asked_for(
    status: int, content_range: str | None, length: int | None, asked: ByteRange | None
) -> None:
    with pytest.raises(SizeUnknown):
        check(status, content_range, length, asked)


@pytest.mark.parametrize(
    ("status", "content_range", "length", "asked", "served", "skip"),
    [
        (200, None, 100, MIDDLE, MIDDLE, 10),
        (200, None, None, MIDDLE, MIDDLE, 10),
        (200, None, None, None, WHOLE, 0),
        (206, "bytes 10-19/*", 10, MIDDLE, MIDDLE, 0),
    ],
)
def test_with_the_size_that_was_asked_for(
    status: int, content_range: str | None, length: int | None, asked: ByteRange | None, served: ByteRange, skip: int
) -> None:
    content = check(status, content_range, length, asked, SIZE)
    assert (content.served, content.skip_bytes, content.info.size) == (served, skip, SIZE)


@pytest.mark.parametrize(
    ("status", "content_range", "length", "asked", "size"),
    [
        (206, None, 10, MIDDLE, None),  # the part is not named
        (206, "bytes 10-19", 10, MIDDLE, None),
        (206, "bytes=10-19/100", 10, MIDDLE, None),
        (206, "bytes 20-29/100", 10, MIDDLE, None),  # another range
        (206, "bytes 15-19/100", 5, MIDDLE, None),
        (206, "bytes 0-9/100", 10, None, None),  # a part, where the whole object was requested
        (200, "bytes 0-9/100", 10, None, None),
        (206, "bytes 10-19/100", 100, MIDDLE, None),  # a length that differs from the range
        (200, "bytes 10-19/100", 100, MIDDLE, None),
        (206, "bytes 19-10/100", 10, MIDDLE, None),
        (206, "bytes 10-19/15", 10, MIDDLE, None),
        (206, "bytes 10-19/*", 10, MIDDLE, 15),
        (200, None, 10, MIDDLE, SIZE),  # either the range without Content-Range, or a truncated object
        (200, None, 10, ByteRange(0, 9), SIZE),
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(
    status: int, content_range: str | None, length: int | None, asked: ByteRange | None, size: int | None
) -> None:
    with pytest.raises(S3RequestRefused):
        check(status, content_range, length, asked, size)


@pytest.mark.parametrize("content_range", [None, "bytes 0-99/100"])
def test_a_range_behind_the_end_of_what_came_is_not_satisfiable(content_range: str | None) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        check(200, content_range, SIZE, ByteRange(SIZE), SIZE)
    assert caught.value.size == SIZE


@pytest.mark.parametrize(
    ("headers", "etag", "modified"),
    [
        (DATED, '"abc"', TEN),
        (DATED | {"ETag": "abc"}, '"abc"', TEN),
        (DATED | {"ETag": 'W/"abc"'}, 'W/"abc"', TEN),
        ({"Last-Modified": DATED["Last-Modified"]}, 'W/"64-6b0bf7a0"', TEN),
        ({"ETag": '"abc"'}, '"abc"', UNKNOWN_DATE),
        ({"ETag": '"abc"', "Last-Modified": "yesterday"}, '"abc"', UNKNOWN_DATE),
        ({"ETag": '"abc"', "Last-Modified": "Sun, 29 Nov 2026 10:00:00"}, '"abc"', TEN),
        ({"ETag": '"abc"', "Last-Modified": "Sun, 29 Nov 2026 10:00:00 -0000"}, '"abc"', TEN),
        ({}, UNVERSIONED_ETAG, UNKNOWN_DATE),
    ],
)
def test_versions_and_dates(headers: dict[str, str], etag: str, modified: datetime) -> None:
    info = check_content_range("a", 200, headers, SIZE, None).info
    assert (info.etag, info.last_modified) == (etag, modified)
