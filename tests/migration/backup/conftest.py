"""Fixtures of the backup tests: catalogues, and storage for the backups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.real.catalogues import catalog, database, databases, db_url

__all__ = ["catalog", "database", "databases", "db_url"]

MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Settings with the catalogue at `db_url` and a media folder for this test."""

    def make(db_url: str, **more: Any) -> Settings:
        values = {
            "DB_URL": db_url,
            "IMMICH_MEDIA_LOCATION": str(tmp_path / "media"),
            "MEDIAVAULT_FSYNC": "false",
            **more,
        }
        return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]

    return make
