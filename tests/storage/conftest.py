"""What storage tests share: a `place` (its settings, as the environment has them) and the `backend` that lives there.

Who runs the conformance suite against something else defines a `place`, or a `backend`, of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from app.config import Settings
from app.storage.backend import StorageBackend
from app.storage.service import open_storage

pytest.register_assert_rewrite("tests.storage.guarantees")

Place = Mapping[str, str]


def settings_of(place: Place) -> Settings:
    return Settings(_env_file=None, **place)  # pyright: ignore[reportCallIssue, reportArgumentType]


@pytest.fixture
async def backend(place: Place) -> AsyncIterator[StorageBackend]:
    """Fresh and empty."""
    service = await open_storage(settings_of(place))
    yield service.primary
    await service.aclose()
