"""What storage tests share: a `place` (its settings, as the environment has them) and the `backend` that lives there.

Who runs the conformance suite against something else defines a `place`, or a `backend`, of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from app.config import Settings
from app.storage.backend import StorageBackend
from app.storage.service import open_storage
from tests.storage.store_records import CORE

pytest.register_assert_rewrite("tests.storage.guarantees")

Place = Mapping[str, str]
OTHER_STORES = "test_conformance_stores.py"


def settings_of(place: Place) -> Settings:
    return Settings(_env_file=None, **place)  # pyright: ignore[reportCallIssue, reportArgumentType]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the suite against other servers, only the core runs outside the long campaigns."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.name == OTHER_STORES and item.originalname not in CORE:
            item.add_marker(pytest.mark.soak)


@pytest.fixture
async def backend(place: Place) -> AsyncIterator[StorageBackend]:
    """Fresh and empty."""
    service = await open_storage(settings_of(place))
    yield service.primary_backend
    await service.aclose()
