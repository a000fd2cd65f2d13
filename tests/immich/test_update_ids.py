"""Ids of writes: which begin with a time, and which come after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app.immich.source.update_ids import build_least_id, is_timed_id

MOMENT = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
OF_MOMENT = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
"""RFC 9562's example of version 7."""


def test_the_least_id_is_between_the_milliseconds() -> None:
    millisecond = timedelta(milliseconds=1)
    assert build_least_id(MOMENT) <= OF_MOMENT < build_least_id(MOMENT + millisecond)
    assert build_least_id(MOMENT + millisecond / 2) == build_least_id(MOMENT), "a later one would leave ids out"
    assert build_least_id(datetime(1900, 1, 1, tzinfo=UTC)) == UUID(int=0)


@pytest.mark.parametrize("newest", [None, uuid4(), UUID(int=0), OF_MOMENT])
def test_which_ids_grow_with_the_time(newest: UUID | None) -> None:
    assert is_timed_id(newest, MOMENT) is (newest == OF_MOMENT)
    assert not is_timed_id(newest, MOMENT - timedelta(days=3)), "no clock has made it"
