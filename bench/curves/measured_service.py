"""A service on SQLite or PostgreSQL whose CPU time, and that of its database, is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx
import psutil

from app.catalog.catalog import Catalog, open_catalog, upgrade_catalog
from tests.real.accounts import Account, BackgroundLoop
from tests.real.postgres import Postgres
from tests.real.service import Service
from tests.real.stacks import Stack

T = TypeVar("T")

WITHIN_SECONDS = 3600.0
DatabaseName = Literal["sqlite", "postgresql"]
MOST_REPEATS = 30
LEAST_CPU_SECONDS = 0.5
"""Work is repeated until it took this, or `MOST_REPEATS` times: CPU time is counted in hundredths of a second."""


@dataclass(frozen=True, slots=True)
class MeasuredService:
    service: Service
    account: Account
    client: httpx.Client
    catalog: Catalog
    """Opened in this process, for rows that no client makes. Use it by `run`."""
    loop: BackgroundLoop
    postgres: Postgres | None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work, within=WITHIN_SECONDS)

    def cpu_seconds(self) -> float:
        """User and system time, so far, of the service and of PostgreSQL, with their children, also those that have ended."""
        roots = [self.service.process]
        if self.postgres is not None:
            roots.append(psutil.Process(self.postgres.pid))
        return sum(_cpu_of_tree(root) for root in roots)

    def measure(self, work: Callable[[], object]) -> float:
        """CPU seconds of one `work`, after one to warm up."""
        work()
        before, repeats = self.cpu_seconds(), 0
        while repeats < MOST_REPEATS:
            work()
            repeats += 1
            if self.cpu_seconds() - before >= LEAST_CPU_SECONDS:
                break
        return (self.cpu_seconds() - before) / repeats

    def measure_in_bench(self, work: Callable[[], object]) -> float:
        """CPU seconds of one `work` in this process, and of PostgreSQL."""
        postgres = psutil.Process(self.postgres.pid) if self.postgres is not None else None
        before = time.process_time() + (_cpu_of_tree(postgres) if postgres else 0)
        work()
        return time.process_time() + (_cpu_of_tree(postgres) if postgres else 0) - before


@contextmanager
def measured_service(
    folder: Path,
    database: DatabaseName,
    settings: Mapping[str, str] | None = None,
    *,
    postgres_parent: Path | None = None,
) -> Iterator[MeasuredService]:
    import asyncio  # noqa: PLC0415 - `asyncio.run` only

    folder.mkdir()
    if database == "sqlite":
        yield from _run(Stack("local", folder, f"sqlite:///{folder}/catalogue.db", None), None, settings)
        return
    with Postgres(postgres_parent) as postgres:
        url = postgres.create_database()
        asyncio.run(upgrade_catalog(url))
        yield from _run(Stack("local", folder, url, None), postgres, settings)


def _run(stack: Stack, postgres: Postgres | None, settings: Mapping[str, str] | None) -> Iterator[MeasuredService]:
    quiet = {"IMMICH_LOG_LEVEL": "warn", **(settings or {})}
    program = ("-m", "app.cli", "serve", "--no-worker")
    with Service(stack, settings=quiet, program=program, spawned=False) as service:
        account = service.people.add(is_admin=True)
        loop = BackgroundLoop()
        catalog = loop.run(open_catalog(stack.db_url, upgrade=False))
        with service.client(account) as client:
            client.timeout = httpx.Timeout(300)
            yield MeasuredService(service, account, client, catalog, loop, postgres)
        loop.run(catalog.aclose())
        loop.close()


def _cpu_of_tree(root: psutil.Process) -> float:
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += sum(times[:4])  # with children that have ended
    return total


def free_memory_folder() -> Path | None:
    """A file system in memory, whose speed does not depend on what else the disk does."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None
