"""Alembic's migrations of the schema. `HEAD` is the newest revision, readable without importing Alembic (a test
compares it)."""

HEAD = "0016"
