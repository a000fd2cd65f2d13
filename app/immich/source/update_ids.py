"""`updateId`, which Immich gives a row at each write: a UUID of version 7 (RFC 9562), which begins with the time in milliseconds. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

_TIME_BITS = 48
_RANDOM_BITS = 128 - _TIME_BITS
_VERSION = 7
_LATEST = timedelta(days=1)
"""A newest id from further in the future was not made by the clock."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def build_least_id(moment: datetime) -> UUID:
    """Every id of this moment or later is greater or equal."""
    return UUID(int=max(0, (moment - _EPOCH) // _MILLISECOND) << _RANDOM_BITS)


def is_timed_id(newest: UUID | None, moment: datetime) -> bool:
    """Whether the ids of a table grow with the time, from the greatest one, at `moment`: random ids would be greater than those of today."""
    return newest is not None and newest.version == _VERSION and newest < build_least_id(moment + _LATEST)
