"""Fixtures: an empty catalogue for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

from tests.real.catalogues import catalog, database, databases, db_url

__all__ = ["catalog", "database", "databases", "db_url"]
