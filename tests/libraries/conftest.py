"""Fixtures: a catalogue with a user, and a library over a real folder."""

from __future__ import annotations

from tests.libraries.library_tree import bind_mount, library, mount_tmpfs, threads, tree
from tests.real.catalogues import catalog, database, databases, db_url

__all__ = ["bind_mount", "catalog", "database", "databases", "db_url", "library", "mount_tmpfs", "threads", "tree"]
