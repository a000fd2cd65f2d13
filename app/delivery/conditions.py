"""Conditional requests (RFC 9110 section 13): parses and evaluates `If-Match`, `If-None-Match`, `If-Modified-Since`,
`If-Unmodified-Since` and `If-Range` against an ETag and a modification time. No I/O."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import NamedTuple


class ConditionResult(Enum):
    """The outcome of the conditions: `NOT_MODIFIED` is a 304, `FAILED` a 412. Only `PROCEED` goes on to evaluate `Range`."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    FAILED = auto()


class ConditionalFields(NamedTuple):
    """The conditional fields and `Range`, as sent. Repeated fields are joined by commas; None: not sent."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None
    range: str | None = None
    is_range_repeated: bool = False


_FIELDS = {
    b"if-match": "if_match",
    b"if-none-match": "if_none_match",
    b"if-modified-since": "if_modified_since",
    b"if-unmodified-since": "if_unmodified_since",
    b"if-range": "if_range",
    b"range": "range",
}

NO_CONDITIONAL_FIELDS = ConditionalFields()


def parse_conditional_fields(headers: Iterable[tuple[bytes, bytes]]) -> ConditionalFields:
    """Collect the fields from a request's raw headers, whose names are in lower case."""
    values: dict[str, str] = {}
    repeated_range = False
    for name, value in headers:
        field = _FIELDS.get(name)
        if field is None:
            continue
        text = value.decode("latin-1")
        if field in values:
            repeated_range = repeated_range or field == "range"
            text = f"{values[field]}, {text}"
        values[field] = text
    return ConditionalFields(**values, is_range_repeated=repeated_range) if values else NO_CONDITIONAL_FIELDS


def evaluate_conditions(
    fields: ConditionalFields, etag: str, last_modified: int, clock: Callable[[], datetime] | None = None
) -> ConditionResult:
    """Evaluate the conditions in the order of RFC 9110 section 13.2.2, for GET and HEAD of an existing representation.

    `etag`: strong, with its quotes. `last_modified`: whole seconds since 1970. `clock`: the current time, for two-digit years.
    """
    if fields.if_match is not None:
        if not matches_strong_etag(fields.if_match, etag):
            return ConditionResult.FAILED
    elif fields.if_unmodified_since is not None:
        date = parse_http_date(fields.if_unmodified_since, clock)
        if date is not None and last_modified > date:
            return ConditionResult.FAILED
    if fields.if_none_match is not None:
        if matches_weak_etag(fields.if_none_match, etag):
            return ConditionResult.NOT_MODIFIED
    elif fields.if_modified_since is not None:
        date = parse_http_date(fields.if_modified_since, clock)
        if date is not None and last_modified <= date:
            return ConditionResult.NOT_MODIFIED
    return ConditionResult.PROCEED


def is_range_applicable(
    fields: ConditionalFields, etag: str, last_modified: int, clock: Callable[[], datetime] | None = None
) -> bool:
    """Whether `Range` applies: it was sent once, and `If-Range`, if sent, matches the ETag or date (RFC 9110 section 13.1.5)."""
    if fields.range is None or fields.is_range_repeated:
        return False
    if fields.if_range is None:
        return True
    validator = fields.if_range.strip(" \t")
    if validator.startswith(('"', "W/")):
        return validator == etag
    return parse_http_date(validator, clock) == last_modified


_ENTITY_TAG = re.compile(r'[ \t]*(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|\Z)')


def parse_entity_tags(field: str) -> Iterable[tuple[bool, str]]:
    """The entity tags of a list: whether each is weak, and its quoted part. Stops at the first malformed tag.

    Commas and backslashes within the quotes are part of a tag (RFC 9110 section 8.8.3).
    """
    position = 0
    while position < len(field):
        match = _ENTITY_TAG.match(field, position)
        if match is None:
            return
        if match[2] is not None:
            yield match[1] is not None, match[2]
        position = match.end()


def matches_strong_etag(field: str, etag: str) -> bool:
    """Strong comparison, for `If-Match`: `*`, or the same tag and not weak (RFC 9110 section 8.8.3.2)."""
    return field.strip(" \t") == "*" or any(not weak and tag == etag for weak, tag in parse_entity_tags(field))


def matches_weak_etag(field: str, etag: str) -> bool:
    """Weak comparison, for `If-None-Match`: `*`, or the same tag, weak or not (RFC 9110 section 8.8.3.2)."""
    return field.strip(" \t") == "*" or any(tag == etag for _, tag in parse_entity_tags(field))


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"
    ),
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
"""The three formats of RFC 9110 section 5.6.7: IMF-fixdate, RFC 850 and asctime."""


def parse_http_date(field: str, clock: Callable[[], datetime] | None = None) -> int | None:
    """Seconds since 1970 of an HTTP date in any of the three formats; None for any other text."""
    text = field.strip(" \t")
    match = next((match for form in _DATES if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _add_century(year, (clock or _utc_now)().year)
    second = int(match["second"])
    try:
        moment = datetime(
            year, _MONTHS.index(match["month"]) + 1, int(match["day"]), int(match["hour"]), int(match["minute"]),
            min(second, 59) if second <= 60 else second, tzinfo=UTC,
        )  # fmt: skip
    except ValueError:
        return None
    return calendar.timegm(moment.timetuple()) + (second == 60)


def _add_century(year: int, this_year: int) -> int:
    """A two-digit year that would be more than 50 years in the future is in the past (RFC 9110 section 5.6.7)."""
    full = this_year - this_year % 100 + year
    return full - 100 if full > this_year + 50 else full


def _utc_now() -> datetime:
    return datetime.now(UTC)


_CONDITIONS = frozenset(_FIELDS) - {b"range"}


def may_redirect(method: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether `S3_DELIVERY=redirect` may redirect this request to a presigned URL: only a GET without conditions.

    The URL is signed for GET, so HEAD would fail; and the store does not know the ETag that the conditions refer to.
    """
    return method == "GET" and not any(name in _CONDITIONS for name, _ in headers)
