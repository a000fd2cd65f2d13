"""Run by Alembic: applies the revisions on the connection that `app.catalog.database.schema_upgrade` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from app.catalog.schema.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
