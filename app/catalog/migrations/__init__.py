"""The schema's history, for Alembic. `HEAD` is its newest revision, known without loading Alembic (a test checks it)."""

HEAD = "0009"
