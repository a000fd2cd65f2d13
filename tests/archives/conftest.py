"""Fixture of the archives' tests: an empty catalogue for each test, on each database."""

from __future__ import annotations

from tests.real.catalogues import catalog, database, databases, db_url

__all__ = ["catalog", "database", "databases", "db_url"]
