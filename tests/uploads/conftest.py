"""Fixtures of the upload tests: a new catalogue and storage for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.catalog.catalog import open_catalog
from app.config import Settings, StorageEngine
from app.storage.local.backend import LocalBackend
from app.storage.service import StorageService
from app.storage.staging import Staging
from tests.real.databases import DatabaseFactory
from tests.uploads.hooked_storage import HookedStorage, UploadTarget


@pytest.fixture
async def place(database_factory: DatabaseFactory, tmp_path: Path) -> AsyncIterator[UploadTarget]:
    media = tmp_path / "media"
    media.mkdir()
    catalog = await open_catalog(database_factory.create("sqlite", tmp_path / "catalogue.db"), upgrade=False)
    backend = LocalBackend(media, fsync=False)
    storage = StorageService(
        local=backend,
        media_root=media,
        s3=None,
        bucket=None,
        prefix="",
        engine=StorageEngine.LOCAL,
        staging=Staging(tmp_path / "staging", 1024 * 1024),
    )
    try:
        user = await catalog.users.create("uploader@example.org", "Uploader")
        settings = Settings(media_location=media)
        yield UploadTarget(catalog, HookedStorage(storage), settings, user, media)
    finally:
        await storage.aclose()
        await catalog.aclose()
