"""Catalogues for the tests that kill an import: copies of one, in either database, and what is in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.real.databases import DatabaseFactory, DatabaseKind, database_name, sqlite_path
from tests.real.postgres import Postgres
from tests.real.waiting import eventually

DATABASES: tuple[DatabaseKind, ...] = ("sqlite", "postgresql")
Rows = list[tuple[Any, ...]]

_COMPARED = {
    "user": "id, email, name, is_admin, quota, used, password_hash, profile_file_id",
    "api_key": "id, user_id, name, permissions, key_hash",
    "immich_key": "key_id",
    "immich_user": "user_id, password_hash",
    "library": "id, owner_id, name, import_paths, exclusion_patterns, is_foreign",
    "person": "id, owner_id, name, thumbnail_file_id",
    "file": "id, owner_id, kind, path, state, size, sha1, is_foreign",
    "asset": "id, owner_id, type, file_id, sidecar_id, checksum, original_file_name, file_created_at, local_date_time, is_favorite, visibility, "
    "duration, width, height, thumbhash, exif, live_photo_video_id, library_id, deleted_at IS NULL",
    "derivative": "asset_id, kind, file_id",
    "task": "asset_id, kind, state",
    "library_file": "asset_id, name, size, mtime_ns",
    "foreign_root": "path",
    "immich_source": "name, phase, after_id, users",
}


@dataclass(frozen=True, slots=True)
class CatalogueCopies:
    """Databases of one kind. `postgres` is called where the kind needs it."""

    kind: DatabaseKind
    factory: DatabaseFactory
    postgres: Callable[[], Postgres]
    folder: Path

    def create(self) -> str:
        """The URL of a catalogue without rows."""
        return self.factory.create(self.kind, self.folder / f"{self.kind}.db")

    @contextmanager
    def copied(self, url: str) -> Iterator[str]:
        """A copy of the catalogue, which nobody has open, until the block ends."""
        copy = self._copy(url)
        try:
            yield copy
        finally:
            if self.kind == "postgresql":
                self.postgres().drop_database(copy)
            else:
                _remove(sqlite_path(copy))

    def _copy(self, url: str) -> str:
        if self.kind == "postgresql":
            self.wait_until_closed(url)
            return self.postgres().create_database(database_name(url))
        path = sqlite_path(url)
        to = path.with_name(f"copy of {path.name}")
        _remove(to)
        with sqlite3.connect(path) as source, sqlite3.connect(to) as target:
            source.backup(target)
        source.close()
        target.close()
        return f"sqlite:///{to}"

    def wait_until_closed(self, url: str) -> None:
        """PostgreSQL notices the death of a client with a delay; until then it holds its locks."""
        if self.kind == "postgresql":
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
            with psycopg.connect(self.postgres().url("postgres"), autocommit=True) as connection:
                count = connection.execute
                eventually(
                    lambda: count(query, [database_name(url)]).fetchone() == (0,), "nobody has the catalogue open"
                )

    def read(self, url: str) -> dict[str, Rows]:
        """What the catalogue has, without what differs from run to run."""
        return {
            table: sorted(self.select(url, f'SELECT {columns} FROM "{table}"'), key=repr)
            for table, columns in _COMPARED.items()
        }

    def select(self, url: str, query: str) -> Rows:
        if self.kind == "postgresql":
            with psycopg.connect(url) as connection:
                return connection.execute(query.encode()).fetchall()
        connection = sqlite3.connect(sqlite_path(url))
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


def _remove(path: Path) -> None:
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        file.unlink(missing_ok=True)
