"""Fixtures of the migration tests: libraries for moves in both directions, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.config import StorageEngine
from tests.migration.library import Library
from tests.real.stacks import Database, Stacks

MakeLibrary = Callable[..., Awaitable[Library]]


@dataclass(frozen=True, slots=True)
class MoveDirection:
    """The target engine, and the database of the catalogue."""

    to: StorageEngine
    database: Database


WAYS = {
    "s3-postgresql": MoveDirection(StorageEngine.S3, "postgresql"),
    "local-sqlite": MoveDirection(StorageEngine.LOCAL, "sqlite"),
}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def way(request: pytest.FixtureRequest) -> MoveDirection:
    return request.param


@pytest.fixture
async def make_library(way: MoveDirection, stacks: Stacks, tmp_path: Path) -> AsyncIterator[MakeLibrary]:
    made: list[Library] = []

    async def make(*, endpoint: str | None = None) -> Library:
        folder = tmp_path / f"library-{len(made)}"
        folder.mkdir()
        made.append(await Library.create(stacks.create("s3", folder, database=way.database), way.to, endpoint=endpoint))
        return made[-1]

    yield make
    for library in made:
        await library.aclose()


@pytest.fixture
async def library(make_library: MakeLibrary) -> Library:
    return await make_library()
