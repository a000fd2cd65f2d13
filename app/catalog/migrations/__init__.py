"""Alembic's migrations of the schema.

A migration expands: new tables, columns that are nullable or have a default in the database, indexes. What the former
version's program reads or writes stays until a later version, whose migration removes it (contracts).
"""

HEAD = "0025"
"""The newest revision, readable without importing Alembic (a test compares it)."""

OLDEST_PROGRAM = "0015"
"""The oldest revision whose program works with tables of `HEAD`: at least the one before it. A migration that removes or
changes what older programs use raises it to the first revision whose program does not use it."""
