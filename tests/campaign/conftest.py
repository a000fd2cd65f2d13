"""Stacks for services that are killed."""

from __future__ import annotations

import pytest

from tests.real.stacks import ENGINES, Engine


@pytest.fixture(params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    """`local` (a folder and SQLite) or `s3` (a prefix of a bucket, with rights for it only, and PostgreSQL)."""
    return request.param
