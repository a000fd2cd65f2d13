"""Decides which answers a front server such as nginx may send in place of this service, and with which header fields. No I/O.

A front server evaluates `Range` and `If-Range` again, by rules of its own, and conditions against validators of its own. So only answers are
left to it of which every server has the same opinion: a whole file, or a single range in its plainest form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.delivery.conditions import NO_CONDITIONAL_FIELDS, ConditionalFields
from app.delivery.errors import RawHeaders
from app.delivery.range_header import parse_range_header
from app.storage.ranges import ByteRange

_PLAIN_RANGE = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})", re.ASCII)
"""Positions of 18 digits fit into 64 bits."""

CARRIED_OVER = frozenset({b"content-disposition", b"cache-control", b"accept-ranges"})
"""nginx keeps these fields of an `X-Accel-Redirect` answer also when the file can not be sent and another answer takes its place, which then
has them twice. So they are sent under other names."""
FIELD_PREFIX = b"x-offload-"


@dataclass(frozen=True, slots=True)
class OffloadablePart:
    """`is_partial`: the answer is a 206."""

    byte_range: ByteRange
    is_partial: bool


def select_offloadable_part(fields: ConditionalFields, size: int, etag: str) -> OffloadablePart | None:
    """The bytes that the answer to a GET with these fields consists of, if it may be left to a front server."""
    if size == 0:
        return None
    if fields is NO_CONDITIONAL_FIELDS:
        return OffloadablePart(ByteRange(0, size - 1), is_partial=False)
    conditions = (fields.if_match, fields.if_none_match, fields.if_modified_since, fields.if_unmodified_since)
    if any(condition is not None for condition in conditions) or fields.if_range not in (None, etag):
        return None
    if fields.range is None:
        return OffloadablePart(ByteRange(0, size - 1), is_partial=False)
    if fields.is_range_repeated or _PLAIN_RANGE.fullmatch(fields.range) is None:
        return None
    selection = parse_range_header(fields.range, size)
    return OffloadablePart(selection[0], is_partial=True) if isinstance(selection, tuple) else None


def rename_carried_over(headers: RawHeaders, *, with_accept_ranges: bool) -> RawHeaders:
    """The fields as a front server gets them that understands `X-Accel-Redirect`. `with_accept_ranges`: it does not send that field by
    itself, as nginx does with a whole file from its disk."""
    return tuple(
        (FIELD_PREFIX + name if name in CARRIED_OVER else name, value)
        for name, value in headers
        if with_accept_ranges or name != b"accept-ranges"
    )
