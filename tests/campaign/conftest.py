"""The stacks (storage and database) of the services that the tests kill, and what forks the processes that are killed."""

from __future__ import annotations

import pytest

from tests.campaign.fork_client import ForkServer
from tests.real.stacks import ENGINES, Engine


@pytest.fixture(params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    """`local` (a folder and SQLite) or `s3` (a prefix of a bucket, with credentials for that prefix only, and
    PostgreSQL)."""
    return request.param


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> ForkServer:
    return ForkServer(tmp_path_factory.mktemp("fork_server"))
