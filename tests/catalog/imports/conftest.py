"""Fixtures: an empty catalogue for each test, on SQLite and on PostgreSQL, and a user of Immich with a library."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.import_records import ImportedLibrary, ImportedUser
from tests.catalog.imports.batches import ROOT, Source
from tests.real.catalogues import catalog, database, databases, db_url

__all__ = ["catalog", "database", "databases", "db_url"]

_DAY = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def source(catalog: Catalog) -> Source:
    source = Source(uuid4(), uuid4())
    user = ImportedUser(source.owner_id, "ada@example.org", "Ada", False, None, None, None, None, _DAY, _DAY)
    await catalog.foreign_files.add_root(ROOT)
    await catalog.imported_accounts.apply_user(user)
    library = ImportedLibrary(source.library_id, source.owner_id, "Old disk", (ROOT,), (), _DAY, _DAY)
    await catalog.imported_libraries.apply([library])
    return source
