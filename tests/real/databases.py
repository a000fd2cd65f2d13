"""Databases for tests: without tables, or with the current ones, as a copy of a template that was migrated once.

Running all migrations takes a fifth of a second of CPU, a copy a tenth of that.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from app.catalog.catalog import upgrade_catalog
from tests.real.postgres import Postgres

DatabaseKind = Literal["sqlite", "postgresql"]


class DatabaseFactory:
    """Creates databases. Those in PostgreSQL are on one server."""

    def __init__(self, postgres: Callable[[], Postgres]) -> None:
        self._postgres = postgres
        self._templates: dict[DatabaseKind, str] = {}
        self._created: list[tuple[Path, str]] = []
        self._folder = Path(tempfile.mkdtemp(prefix="templates-"))

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def drop_below(self, folder: Path) -> None:
        """Drop the databases in PostgreSQL whose `path` is below `folder`: each takes 8 MB, and a run creates hundreds."""
        for path, url in [created for created in self._created if folder in created[0].parents]:
            self._created.remove((path, url))
            self._postgres().drop_database(url)

    def create_empty(self, kind: DatabaseKind, path: Path) -> str:
        """Returns the URL of a database without tables. `path` is the file of a SQLite catalogue, which is not created."""
        return f"sqlite:///{path}" if kind == "sqlite" else self._create_in_postgres(path)

    def create(self, kind: DatabaseKind, path: Path) -> str:
        """As `create_empty`, with the current tables, which have no rows."""
        template = self._templates.get(kind)
        if template is None:
            template = self._templates[kind] = self.create_empty(kind, self._folder / "catalogue.db")
            with ThreadPoolExecutor(1) as thread:  # the caller's thread may run an event loop already
                thread.submit(asyncio.run, upgrade_catalog(template)).result()
        if kind == "postgresql":
            return self._create_in_postgres(path, database_name(template))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sqlite_path(template), path)
        return f"sqlite:///{path}"

    def _create_in_postgres(self, path: Path, *template: str) -> str:
        url = self._postgres().create_database(*template)
        self._created.append((path, url))
        return url


def database_name(url: str) -> str:
    """The name in the URL of a PostgreSQL database."""
    return url.partition("?")[0].rpartition("/")[2]


def sqlite_path(url: str) -> Path:
    """The file in the URL of a SQLite database."""
    return Path(url.removeprefix("sqlite:///"))
