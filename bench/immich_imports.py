"""Benchmark of an import of an Immich installation against the minimal work: `COPY` of the same rows out of its database, and inserts of the rows that
the import has made, with the driver's `executemany`. Both databases are on one PostgreSQL without fsync."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from app.catalog.catalog import open_catalog, upgrade_catalog
from app.immich.import_run import ImmichImport, ImportOptions
from app.immich.media_roots import parse_media_roots
from app.immich.source.connection import open_source
from app.immich.source.reader import PAGE_ROWS, SourceReader
from bench.processes import Cores, read_peak_bytes
from bench.rows import ResultRow, Sample
from tests.immich.installation import Installation
from tests.immich.many_assets import add_many
from tests.immich.tables import Generation
from tests.real.postgres import Postgres

ASSETS = 20_000
ROW = "import from Immich"
PEER = "COPY and inserts"
TABLES = ("file", "asset", "derivative", "task")
"""Tables into which an import inserts rows of each asset."""
COPIED = (
    'SELECT * FROM asset LEFT JOIN asset_exif ON "assetId" = id',
    'SELECT * FROM asset_file JOIN asset ON "assetId" = asset.id',
)
MEBIBYTE = 1024**2


def measure_imports(folder: Path, rounds: int, cores: Cores, assets: int = ASSETS) -> list[ResultRow]:
    """Each round imports into a new catalogue, and inserts the same rows into another one; each in a process of its own."""
    row = ResultRow(ROW, "seconds")
    with Postgres() as postgres:
        installation = Installation.create(postgres.create_database(), folder / "immich", Generation.V3, 1, assets=10)
        add_many(installation, assets)
        for number in range(rounds + 1):
            ours, minimal = postgres.create_database(), postgres.create_database()
            for url in (ours, minimal):
                asyncio.run(upgrade_catalog(url))
            imported = _run_measured(cores, "import", installation.url, ours, *installation.media_roots)
            inserted = _run_measured(cores, "insert", installation.url, ours, minimal)
            if number:  # the first round warms up
                row.samples.setdefault("mediavault", []).append(imported)
                row.samples.setdefault(PEER, []).append(inserted)
            for url in (ours, minimal):
                postgres.drop_database(url)
            print(f"{ROW}: round {number} of {rounds}", flush=True)
    return [row]


def _run_measured(cores: Cores, *arguments: str) -> Sample:
    taskset = ["taskset", "-c", ",".join(map(str, sorted(cores.server)))]
    command = [*taskset, sys.executable, "-m", "bench.immich_imports", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=7200)
    return json.loads(done.stdout.splitlines()[-1])


class _NoProgress:
    def begin(self, stage: str, total: int | None) -> None:
        """Shows nothing."""

    def advance(self, count: int, size: int = 0) -> None:
        """Shows nothing."""


async def import_all(source_url: str, db_url: str, media_roots: list[str]) -> Sample:
    """As `mediavault immich import`; the start of the interpreter is not measured."""
    catalog = await open_catalog(db_url)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    async with open_source(source_url) as connection:
        reader = await SourceReader.open(connection)
        run = ImmichImport(catalog, reader, parse_media_roots(media_roots), ImportOptions(), _NoProgress())
        await run.import_all()
    sample = _measure_usage(began, usage)
    await catalog.aclose()
    return sample


def _insert(source_url: str, imported_url: str, target_url: str) -> Sample:
    rows, names = _read_imported(imported_url, target_url)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    with psycopg.connect(source_url) as source:
        for query in COPIED:
            statement = sql.SQL("COPY ({}) TO STDOUT").format(sql.SQL(query))  # pyright: ignore[reportArgumentType]
            with source.cursor().copy(statement) as copy:
                for _ in copy:
                    pass
    with psycopg.connect(target_url) as target:
        batches = -(-len(rows["asset"]) // PAGE_ROWS)
        for table in TABLES:  # the rows of one refer to those before
            size = -(-len(rows[table]) // batches)
            marks = sql.SQL(", ").join([sql.Placeholder()] * len(names[table]))
            columns = sql.SQL(", ").join(map(sql.Identifier, names[table]))
            insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), columns, marks)
            for start in range(0, len(rows[table]), size):
                target.cursor().executemany(insert, rows[table][start : start + size])
                target.commit()
    return _measure_usage(began, usage)


def _read_imported(imported_url: str, target_url: str) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """The rows and the columns of each table; the rows of users are copied now. JSON is inserted as text."""
    rows: dict[str, list[Any]] = {}
    names: dict[str, list[str]] = {}
    with psycopg.connect(imported_url) as imported, psycopg.connect(target_url) as target:
        target.execute("SET session_replication_role = replica")
        set_json_loads(lambda text: text.decode() if isinstance(text, bytes) else text, imported)
        for table in ("user", *TABLES):
            cursor = imported.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
            rows[table] = cursor.fetchall()
            names[table] = [column.name for column in cursor.description or ()]
        marks = sql.SQL(", ").join([sql.Placeholder()] * len(names["user"]))
        target.cursor().executemany(sql.SQL('INSERT INTO "user" VALUES ({})').format(marks), rows["user"])
    return rows, names


def _measure_usage(began: float, before: resource.struct_rusage) -> Sample:
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "memory_mib": read_peak_bytes(os.getpid()) / MEBIBYTE}


def main() -> None:
    """Run one measured task in this process."""
    work, source_url, db_url, *more = sys.argv[1:]
    sample = (
        asyncio.run(import_all(source_url, db_url, more)) if work == "import" else _insert(source_url, db_url, more[0])
    )
    print(json.dumps(sample))


if __name__ == "__main__":
    main()
