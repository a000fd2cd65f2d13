"""Parses the `Range` field (RFC 9110 section 14) into byte ranges that are clamped and coalesced. No I/O.

Time is linear in the field's length, which is bounded; a quadratic parser is a denial of service (CVE-2025-62727).
"""

from __future__ import annotations

import re
from enum import Enum, auto

from app.storage.ranges import ByteRange

MAX_RANGES = 100
MAX_FIELD_CHARACTERS = 16 * 1024


class RangeResult(Enum):
    """The results of parsing other than byte ranges: send the whole representation (200), or 416."""

    WHOLE = auto()
    UNSATISFIABLE = auto()


MAX_POSITION_DIGITS = 19
"""A longer position counts as past the end, so that no integer of unbounded size is parsed."""
_PAST_ANY_END = 10**MAX_POSITION_DIGITS

_SIMPLE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})", re.ASCII)
_FIELD = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL | re.ASCII)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)


def parse_range_header(field: str | None, size: int) -> RangeResult | tuple[ByteRange, ...]:
    """The byte ranges, clamped to `size` and coalesced, in the order of the request; never empty.

    `WHOLE`: no field, invalid grammar, more than `MAX_RANGES` ranges, more bytes requested than the file has, or an empty file.
    `UNSATISFIABLE`: no range overlaps the file.
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
    """The general case of `parse_range_header`, without its fast path for a single plain range; same results for every field."""
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
    """Join ranges that overlap or touch. A joined range takes the position of the first of its parts in the request."""
    positions: list[int] = []
    joined: list[ByteRange] = []
    for position, item in sorted(enumerate(ranges), key=lambda entry: entry[1].first):
        last = _last_position(item)
        if joined and item.first <= _last_position(joined[-1]) + 1:
            joined[-1] = ByteRange(joined[-1].first, max(last, _last_position(joined[-1])))
            positions[-1] = min(positions[-1], position)
        else:
            joined.append(item)
            positions.append(position)
    return tuple(item for _, item in sorted(zip(positions, joined, strict=True), key=lambda entry: entry[0]))


def _parse_spec(spec: str, size: int) -> tuple[int, int] | None:
    """First and last position, not clamped; a suffix range is converted to positions. None if `spec` is invalid."""
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
