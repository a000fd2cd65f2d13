"""Fixtures: an empty catalogue for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from app.catalog.catalog import Catalog, open_catalog, upgrade_catalog
from tests.real.postgres import Postgres

Kind = Literal["sqlite", "postgresql"]


class Databases:
    """Creates databases. Those with tables are copies of a template that was migrated once."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request = request
        self._folder = folder
        self._templates: dict[str, str] = {}
        self._count = 0

    @property
    def postgres(self) -> Postgres:
        return self._request.getfixturevalue("postgres")

    def empty(self, kind: Kind) -> str:
        if kind == "postgresql":
            return self.postgres.create_database()
        self._count += 1
        return f"sqlite:///{self._folder}/{self._count}/catalogue.db"

    async def ready(self, kind: Kind) -> str:
        if kind not in self._templates:
            url = self.empty(kind)
            await upgrade_catalog(url)
            self._templates[kind] = url
        template = self._templates[kind]
        if kind == "postgresql":
            name = template.partition("?")[0].rpartition("/")[2]
            return await asyncio.to_thread(self.postgres.create_database, name)
        url = self.empty(kind)
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True)
        shutil.copyfile(template.removeprefix("sqlite:///"), path)
        return url

    @staticmethod
    def path(url: str) -> Path:
        """The file of a SQLite URL."""
        return Path(url.removeprefix("sqlite:///"))

    def done(self, kind: Kind, url: str) -> None:
        if kind == "postgresql":
            self.postgres.drop_database(url)
        else:
            shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent)


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    return Databases(request, tmp_path_factory.mktemp("catalogues"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
async def db_url(database: Kind, databases: Databases) -> AsyncIterator[str]:
    """The URL of a database with empty tables."""
    url = await databases.ready(database)
    yield url
    await asyncio.to_thread(databases.done, database, url)


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
