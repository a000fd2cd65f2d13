"""The `Range` field: which bytes of a representation a request asks for (RFC 9110 section 14). No I/O.

Time is linear in the field's length, which is bounded; CVE-2025-62727 is what happens otherwise.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from app.storage.ranges import ByteRange

MAX_RANGES = 100
MAX_FIELD_CHARACTERS = 16 * 1024


class RangeResult(Enum):
    """What a `Range` field can mean beside certain bytes."""

    WHOLE = auto()
    UNSATISFIABLE = auto()


MAX_POSITION_DIGITS = 19
"""Longer positions count as past the end, so no text becomes a number of unbounded size."""
_PAST_ANY_END = 10**MAX_POSITION_DIGITS

_SIMPLE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})", re.ASCII)
_FIELD = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL | re.ASCII)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)


def parse_range_header(field: str | None, size: int) -> RangeResult | tuple[ByteRange, ...]:
    """The byte ranges, clamped to `size` and coalesced, in the order asked for; never empty.

    `WHOLE` where there is no field, where it does not hold to the grammar, where it asks for more than `MAX_RANGES`
    ranges or for more bytes than there are, and for an empty file; `UNSATISFIABLE` where no range has a byte.
    """
    if field is None or size == 0:
        return RangeResult.WHOLE
    simple = _SIMPLE.fullmatch(field)
    if simple is None:
        return parse_range_set(field, size)
    first = int(simple[1])
    last = int(simple[2]) if simple[2] else size - 1
    if first >= size:
        return RangeResult.WHOLE if simple[2] and last < first else RangeResult.UNSATISFIABLE
    if last < first:
        return RangeResult.WHOLE
    return (ByteRange(first, last if last < size else size - 1),)


def parse_range_set(field: str, size: int) -> RangeResult | tuple[ByteRange, ...]:
    """What `parse_range_header` answers, for every field: the general way, without the short cut for one plain range."""
    if size == 0 or len(field) > MAX_FIELD_CHARACTERS:
        return RangeResult.WHOLE
    match = _FIELD.fullmatch(field.strip(" \t"))
    if match is None:
        return RangeResult.WHOLE
    specs = [spec for part in match[1].split(",") if (spec := part.strip(" \t"))]
    if not specs or len(specs) > MAX_RANGES:
        return RangeResult.WHOLE
    ranges: list[ByteRange] = []
    for spec in specs:
        pair = _parse_spec(spec, size)
        if pair is None:
            return RangeResult.WHOLE
        if pair[0] < size:
            ranges.append(ByteRange(pair[0], min(pair[1], size - 1)))
    if not ranges:
        return RangeResult.UNSATISFIABLE
    if sum(item.length for item in ranges) > size:
        return RangeResult.WHOLE
    return coalesce_ranges(ranges)


def coalesce_ranges(ranges: list[ByteRange]) -> tuple[ByteRange, ...]:
    """Join those that overlap or touch. A joined range stands where the first of its parts was asked for."""
    places: list[int] = []
    joined: list[ByteRange] = []
    for place, item in sorted(enumerate(ranges), key=lambda entry: entry[1].first):
        last = _last_position(item)
        if joined and item.first <= _last_position(joined[-1]) + 1:
            joined[-1] = ByteRange(joined[-1].first, max(last, _last_position(joined[-1])))
            places[-1] = min(places[-1], place)
        else:
            joined.append(item)
            places.append(place)
    return tuple(item for _, item in sorted(zip(places, joined, strict=True), key=lambda entry: entry[0]))


def _parse_spec(spec: str, size: int) -> tuple[int, int] | None:
    """First and last position as sent, not clamped (a suffix counted from the start); None for no valid spec."""
    match = _SPEC.fullmatch(spec)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(size - _parse_position(match[2]), 0), size - 1
    first = _parse_position(match[1])
    last = _parse_position(match[2]) if match[2] else _PAST_ANY_END
    return None if last < first else (first, last)


def _parse_position(digits: str) -> int:
    return int(digits) if len(digits) <= MAX_POSITION_DIGITS else _PAST_ANY_END


def _last_position(item: ByteRange) -> int:
    return item.first + item.length - 1
