"""Fixtures of the session tests: a catalogue and a storage on each stack, and the services of several processes on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.real.stacks import ENGINES, Engine, Stacks
from tests.uploads.sessions.session_place import SessionPlace, open_place


@pytest.fixture(params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    return request.param


@pytest.fixture
async def place(stack: Engine, stacks: Stacks, tmp_path: Path) -> AsyncIterator[SessionPlace]:
    async with open_place(stacks, stack, tmp_path) as place:
        yield place
        await place.assert_consistent()


@pytest.fixture
async def local_place(stacks: Stacks, tmp_path: Path) -> AsyncIterator[SessionPlace]:
    """For what does not depend on storage or database."""
    async with open_place(stacks, "local", tmp_path) as place:
        yield place
        await place.assert_consistent()
