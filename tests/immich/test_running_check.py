"""Immich counts as running while others are connected to its database."""

from __future__ import annotations

import psycopg
import pytest

from app.immich import running_check
from app.immich.running_check import ImmichRunning, require_stopped
from tests.real.catalogues import Databases, databases

__all__ = ["databases"]


async def test_a_connection_of_another_means_that_immich_runs(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_check, "_PAUSE_SECONDS", 0.05)
    url = databases.empty("postgresql")
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SELECT 1")
        with pytest.raises(ImmichRunning, match="1 other connections"):
            await require_stopped(url)
    await require_stopped(url)
