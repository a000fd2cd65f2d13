"""Fixtures of the tests of `mediavault immich`: installations of Immich, which are made once for each module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.immich.installation import Installation
from tests.immich.tables import Generation
from tests.immich.takeover import Takeover
from tests.real.postgres import Postgres
from tests.real.service import WORKING, Service
from tests.real.stacks import Database, Engine, Stacks

MakeInstallation = Callable[..., Installation]
MakeTakeover = Callable[..., Takeover]
ASSETS = 60
SOAK_ASSETS = 4000


@pytest.fixture(scope="module")
def make_installation(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, run_seed: int, soak: bool
) -> Iterator[MakeInstallation]:
    made: list[Installation] = []

    def make(generation: Generation, *, assets: int | None = None, number: int = 0) -> Installation:
        """Installations of different numbers have different ids."""
        count = assets or (SOAK_ASSETS if soak else ASSETS)
        folder: Path = tmp_path_factory.mktemp("immich")
        url = postgres.create_database()
        made.append(Installation.create(url, folder, generation, run_seed + number, assets=count))
        return made[-1]

    yield make
    for each in made:
        postgres.drop_database(each.url)


@pytest.fixture(scope="module", params=list(Generation))
def installation(request: pytest.FixtureRequest, make_installation: MakeInstallation) -> Installation:
    """An installation that the tests of the module only read, of each generation."""
    return make_installation(request.param)


COMBINATIONS: dict[str, tuple[Generation, Engine]] = {
    "v2-local": (Generation.V2, "local"),
    "v3-s3": (Generation.V3, "s3"),
}
"""Each generation with one of our stacks."""
COMBINATION_IDS = [engine for _, engine in COMBINATIONS.values()]
"""Names of tests that differ in the engine only, as the count of tests per engine wants them."""


@pytest.fixture(scope="module")
def make_takeover(
    make_installation: MakeInstallation, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeTakeover]:
    """A new installation and a service that is not started."""
    services: list[Service] = []

    def make(
        combination: str,
        *,
        assets: int | None = None,
        database: Database | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Takeover:
        generation, engine = COMBINATIONS[combination]
        stack = stacks.create(engine, tmp_path_factory.mktemp("ours"), database=database)
        services.append(Service(stack, settings=settings, program=WORKING))
        return Takeover(make_installation(generation, assets=assets), services[-1])

    yield make
    for service in services:
        service.close()
