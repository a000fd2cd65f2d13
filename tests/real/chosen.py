"""Fixtures for tests that touch neither storage nor the dialect of SQL: they run on one stack or one database, which the seed chooses, and in the
long campaigns on both. A module that imports one of them replaces the fixture of its folder."""

from __future__ import annotations

import pytest

from tests.real.databases import DatabaseKind
from tests.real.stacks import ENGINES, Engine

DATABASES: tuple[DatabaseKind, DatabaseKind] = ("sqlite", "postgresql")
CROSSED: tuple[tuple[Engine, DatabaseKind], ...] = (("local", "postgresql"), ("s3", "sqlite"))
"""Storage and database in other pairs than the stacks have."""
EITHER = [pytest.param(0, id="either"), pytest.param(1, id="the other", marks=pytest.mark.soak)]


@pytest.fixture(scope="session", params=EITHER)
def stack(request: pytest.FixtureRequest, run_seed: int) -> Engine:
    return ENGINES[(run_seed + request.param) % 2]


@pytest.fixture(params=EITHER)
def database(request: pytest.FixtureRequest, run_seed: int) -> DatabaseKind:
    return DATABASES[(run_seed + request.param) % 2]


@pytest.fixture(params=EITHER)
def crossed(request: pytest.FixtureRequest, run_seed: int) -> tuple[Engine, DatabaseKind]:
    return CROSSED[(run_seed + request.param) % 2]
