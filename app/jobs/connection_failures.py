"""Distinguishes lost connections of procrastinate to PostgreSQL from its other errors."""

from __future__ import annotations

from procrastinate.exceptions import ConnectorException
from psycopg import OperationalError

from app.catalog.database.error_translation import connection_lost


def connection_failed(error: BaseException | None) -> bool:
    """Whether the error means that a connection was lost or could not be opened."""
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    return isinstance(cause, OperationalError) and connection_lost(cause.sqlstate)
