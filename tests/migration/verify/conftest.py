"""Fixtures of the consistency check: storage and catalogue on both stacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.catalog.catalog import Catalog, open_catalog
from app.config import Settings
from app.storage.key import Key
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.migration.verify.damaged_library import DamagedLibrary
from tests.real.catalogues import Databases, databases
from tests.real.stacks import ENGINES, USUAL, Engine, Stack, Stacks

__all__ = ["databases"]


@pytest.fixture(scope="session", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    return request.param


@pytest.fixture(scope="session")
def place(stack: Engine, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The storage location; module-wide, because making one on S3 takes seconds."""
    return stacks.create(stack, tmp_path_factory.mktemp(f"library-{stack}"))


@pytest.fixture
async def catalog(stack: Engine, databases: Databases) -> AsyncIterator[Catalog]:
    url = databases.ready(USUAL[stack])
    opened = await open_catalog(url)
    yield opened
    await opened.aclose()
    databases.done(url)


@pytest.fixture
async def storage(place: Stack, tmp_path: Path) -> AsyncIterator[StorageService]:
    """Empty storage; on S3 with a local media folder, too."""
    folder = place.media if place.bucket is None else tmp_path / "media"
    folder.mkdir(exist_ok=True)
    values = {**place.settings, "IMMICH_MEDIA_LOCATION": str(folder), "MEDIAVAULT_FSYNC": "false"}
    opened = await open_storage(Settings(_env_file=None, **values))  # pyright: ignore[reportCallIssue, reportArgumentType]
    await opened.primary_backend.delete_objects([Key(info.key) async for info in opened.primary_backend.list_objects()])
    yield opened
    await opened.aclose()


@pytest.fixture
async def library(place: Stack, catalog: Catalog, storage: StorageService) -> DamagedLibrary:
    return await DamagedLibrary.create(place, catalog, storage)
