"""A catalogue with a user, and a library over a real folder."""

from __future__ import annotations

from tests.libraries.library_tree import bound, library, mounted, shelf, threads
from tests.real.catalogues import catalog, database, databases, db_url

__all__ = ["bound", "catalog", "database", "databases", "db_url", "library", "mounted", "shelf", "threads"]
