"""The stacks (storage and database) of the services that the tests kill."""

from __future__ import annotations

import pytest

from tests.real.stacks import ENGINES, Engine


@pytest.fixture(params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    """`local` (a folder and SQLite) or `s3` (a prefix of a bucket, with credentials for that prefix only, and
    PostgreSQL)."""
    return request.param
