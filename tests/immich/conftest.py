"""Fixtures of the tests of `mediavault immich`: installations of Immich, which are made once for each module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.immich.installation import Installation
from tests.immich.tables import Generation
from tests.real.postgres import Postgres

MakeInstallation = Callable[..., Installation]
ASSETS = 60
SOAK_ASSETS = 4000


@pytest.fixture(scope="module")
def make_installation(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, run_seed: int, soak: bool
) -> Iterator[MakeInstallation]:
    made: list[Installation] = []

    def make(generation: Generation, *, assets: int | None = None) -> Installation:
        count = assets or (SOAK_ASSETS if soak else ASSETS)
        folder: Path = tmp_path_factory.mktemp("immich")
        made.append(Installation.create(postgres.create_database(), folder, generation, run_seed, assets=count))
        return made[-1]

    yield make
    for each in made:
        postgres.drop_database(each.url)


@pytest.fixture(scope="module", params=list(Generation))
def installation(request: pytest.FixtureRequest, make_installation: MakeInstallation) -> Installation:
    """An installation that the tests of the module only read, of each generation."""
    return make_installation(request.param)
