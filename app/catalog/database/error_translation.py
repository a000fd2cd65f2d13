"""Translates errors of SQLAlchemy and of the drivers to `CatalogError`s."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.catalog.errors import (
    CatalogDamaged,
    CatalogError,
    CatalogFileMoved,
    CatalogFull,
    CatalogLocked,
    CatalogReadOnly,
    CatalogUnavailable,
    CatalogUnreachable,
    ConstraintViolation,
)

# Prepared statements raise the driver's own errors. SQLite's driver raises the last two for values that fit no column, and SQLAlchemy does
# not wrap them.
DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeError)

_SQLITE_STATES: dict[int, type[CatalogError]] = {
    sqlite3.SQLITE_BUSY: CatalogLocked,
    sqlite3.SQLITE_CANTOPEN: CatalogUnavailable,
    sqlite3.SQLITE_CORRUPT: CatalogDamaged,
    sqlite3.SQLITE_FULL: CatalogFull,
    sqlite3.SQLITE_IOERR: CatalogUnavailable,
    sqlite3.SQLITE_LOCKED: CatalogLocked,
    sqlite3.SQLITE_NOMEM: CatalogUnavailable,
    sqlite3.SQLITE_NOTADB: CatalogDamaged,
    sqlite3.SQLITE_PERM: CatalogReadOnly,
    sqlite3.SQLITE_PROTOCOL: CatalogLocked,
    sqlite3.SQLITE_READONLY: CatalogReadOnly,
    sqlite3.SQLITE_READONLY_DBMOVED: CatalogFileMoved,
}
"""By extended result code, else by primary result code."""

_POSTGRES_STATES: dict[str, type[CatalogUnavailable]] = {
    "25006": CatalogReadOnly,  # read_only_sql_transaction: a standby, or a server that was told to be one
    "53100": CatalogFull,  # disk_full
    "55P03": CatalogLocked,  # lock_not_available
}
"""By SQLSTATE. Other transient errors are `CatalogUnavailable`."""

_LOST_CONNECTION = ("08", "57P01", "57P02", "57P03")
"""Prefixes of SQLSTATEs: connection_exception, admin_shutdown, crash_shutdown, cannot_connect_now."""


def translate_database_error(error: SQLAlchemyError | sqlite3.Error | OverflowError | UnicodeError) -> CatalogError:
    """Translate an error of the database to an error of the catalogue."""
    if isinstance(error, PoolTimeout):
        return CatalogUnavailable("no connection to the database is free")
    if isinstance(error, IntegrityError):
        return ConstraintViolation(_first_line(error.orig))
    if isinstance(error, DBAPIError):
        return _error_class(error)(_first_line(error.orig))
    if isinstance(error, sqlite3.IntegrityError):
        return ConstraintViolation(_first_line(error))
    if isinstance(error, sqlite3.Error):
        return (_sqlite_error_class(error) or CatalogError)(_first_line(error))
    return CatalogError(f"{type(error).__name__}: {error.args[0] if error.args else ''}")


def _error_class(error: DBAPIError) -> type[CatalogError]:
    if isinstance(error.orig, sqlite3.Error):
        kind = _sqlite_error_class(error.orig)
    else:
        state: str | None = getattr(error.orig, "sqlstate", None)
        kind = _POSTGRES_STATES.get(state or "")
        if isinstance(error, (OperationalError, InterfaceError)):
            kind = kind or (CatalogUnreachable if connection_lost(state) else CatalogUnavailable)
    return kind or (CatalogUnavailable if error.connection_invalidated else CatalogError)


def _sqlite_error_class(error: sqlite3.Error) -> type[CatalogError] | None:
    # getattr: errors that the sqlite3 module itself raises have no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return _SQLITE_STATES.get(code) or _SQLITE_STATES.get(code & 0xFF)


def connection_lost(sqlstate: str | None) -> bool:
    """Whether an operational error of PostgreSQL's driver with this SQLSTATE means a lost connection. Errors of the
    driver itself have no SQLSTATE."""
    return sqlstate is None or sqlstate.startswith(_LOST_CONNECTION)


def _first_line(error: BaseException | None) -> str:
    # The first line of the driver's own text: SQLAlchemy's text would add the values of the statement.
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
