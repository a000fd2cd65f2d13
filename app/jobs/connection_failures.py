"""Tells failures of procrastinate's connections to PostgreSQL from its other failures."""

from __future__ import annotations

from procrastinate.exceptions import ConnectorException
from psycopg import OperationalError

from app.catalog.database.engine import connection_lost


def connection_failed(error: BaseException | None) -> bool:
    """Whether a connection was lost or could not be had."""
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    return isinstance(cause, OperationalError) and connection_lost(cause.sqlstate)
