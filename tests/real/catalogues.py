"""Fixtures: an empty catalogue for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database.engine import Database
from app.catalog.database.locations import SqliteLocation, parse_url
from tests.real.databases import DatabaseFactory, DatabaseKind, sqlite_path
from tests.real.postgres import Postgres


def open_older(db_url: str) -> Database:
    """A database without tables, for those of an older revision; the caller closes it."""
    older = Database(parse_url(db_url))
    if isinstance(older.location, SqliteLocation):
        older.location.path.parent.mkdir(parents=True)
    return older


class Databases:
    """Creates databases, each SQLite file in a folder of its own."""

    def __init__(self, request: pytest.FixtureRequest, factory: DatabaseFactory, folder: Path) -> None:
        self._request = request
        self._factory = factory
        self._folder = folder
        self._count = 0

    @property
    def postgres(self) -> Postgres:
        return self._request.getfixturevalue("postgres")

    def empty(self, kind: DatabaseKind) -> str:
        return self._factory.create_empty(kind, self._next_path())

    def ready(self, kind: DatabaseKind) -> str:
        return self._factory.create(kind, self._next_path())

    def done(self, url: str) -> None:
        if url.startswith("sqlite"):
            shutil.rmtree(sqlite_path(url).parent)
        else:
            self.postgres.drop_database(url)

    def _next_path(self) -> Path:
        self._count += 1
        return self._folder / str(self._count) / "catalogue.db"


@pytest.fixture(scope="session")
def databases(
    request: pytest.FixtureRequest, database_factory: DatabaseFactory, tmp_path_factory: pytest.TempPathFactory
) -> Databases:
    return Databases(request, database_factory, tmp_path_factory.mktemp("catalogues"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> DatabaseKind:
    return request.param


@pytest.fixture
def db_url(database: DatabaseKind, databases: Databases) -> Iterator[str]:
    """The URL of a database with empty tables."""
    url = databases.ready(database)
    yield url
    databases.done(url)


@pytest.fixture
async def catalog(db_url: str) -> AsyncIterator[Catalog]:
    opened = await open_catalog(db_url)
    yield opened
    await opened.aclose()


@asynccontextmanager
async def locked_table(db_url: str, table: str, mode: str) -> AsyncIterator[None]:
    """Another process holds a lock until the block ends: on PostgreSQL that of `mode` on `table`, on SQLite the write lock."""
    if db_url.startswith("sqlite"):
        connection = sqlite3.connect(db_url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.close()
    else:
        async with await psycopg.AsyncConnection.connect(db_url) as connection:
            await connection.execute(f'LOCK TABLE "{table}" IN {mode} MODE'.encode())
            yield
            await connection.rollback()
