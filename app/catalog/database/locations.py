"""Where the database is: parses `DB_URL`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.catalog.errors import InvalidDatabaseUrl


@dataclass(frozen=True, slots=True)
class SqliteLocation:
    """A catalogue in one file; `path` is absolute."""

    path: Path


@dataclass(frozen=True, slots=True)
class PostgresLocation:
    """A catalogue in PostgreSQL; `url` is SQLAlchemy's, including the driver's name."""

    url: URL


DatabaseLocation = SqliteLocation | PostgresLocation


def parse_url(db_url: str) -> DatabaseLocation:
    """Raises `InvalidDatabaseUrl`. The driver's name is optional; PostgreSQL's query string is kept."""
    try:
        url = make_url(db_url)
    except (ArgumentError, ValueError):
        raise InvalidDatabaseUrl("DB_URL is no database address") from None
    backend = url.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        _check_escaped(db_url, url)
        return PostgresLocation(url.set(drivername="postgresql+psycopg"))
    if backend != "sqlite":
        raise InvalidDatabaseUrl("DB_URL starts with neither sqlite:/// nor postgresql://")
    if url.host or not url.database or url.database == ":memory:":
        raise InvalidDatabaseUrl("DB_URL names no file: sqlite:///relative/path or sqlite:////absolute/path")
    if url.query:
        raise InvalidDatabaseUrl(f"DB_URL: sqlite takes no parameter {next(iter(url.query))!r}")
    return SqliteLocation(Path(url.database).absolute())


def _check_escaped(db_url: str, url: URL) -> None:
    """Raises `InvalidDatabaseUrl` for an unescaped password: it ends at its first `@`, the rest would be taken for the
    host, and error messages of the driver would contain it."""
    if db_url.count("@") > 1 or "@" in f"{url.host}{url.database}":
        raise InvalidDatabaseUrl(
            "DB_URL has an '@', '/' or '?' in the user's name or the password that is not escaped: write %40, %2F, %3F"
        )


def describe_address(location: DatabaseLocation) -> str:
    """The database's address, without the user's name and the password."""
    if isinstance(location, SqliteLocation):
        return str(location.path)
    host, port = (location.url.query.get(name) for name in ("host", "port"))
    return f"{_join_values(location.url.host or host)}:{_join_values(location.url.port or port or 5432)}/{location.url.database or ''}"


def _join_values(value: str | int | tuple[str, ...] | None) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value or "")
