"""Alembic's entry point: applies migrations on the connection and transaction of `app.catalog.database.schema_upgrade`."""

from __future__ import annotations

from alembic import context

from app.catalog.schema.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
