"""Benchmark of scans: a library of 200,000 files, scanned twice, against the minimal work (`find`, and inserts of the same rows)."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

from app.catalog.catalog import Catalog, open_catalog, upgrade_catalog
from app.libraries.patterns.exclusions import DEFAULT_EXCLUSIONS
from bench.processes import Cores, read_peak_bytes
from bench.rows import ResultRow, Sample

FILES = 200_000
PER_FOLDER = 100
BATCH = 2000
TABLES = ("file", "asset", "library_file", "task")
"""Tables into which a scan inserts a row for each file."""
MEBIBYTE = 1024**2


def measure_scans(folder: Path, options: Namespace, cores: Cores) -> list[ResultRow]:
    """Each round runs a first scan into a new catalogue and a second one without changes, each in a process of its own."""
    tree = folder / "library"
    _create_tree(tree, options.files)
    first, second = ResultRow("first scan", "seconds"), ResultRow("second scan", "seconds")
    for number in range(options.rounds + 1):
        samples = _measure_round(folder, tree, cores)
        if number:  # the first round warms up
            for row, contestant, sample in samples:
                (first if row == "first" else second).samples.setdefault(contestant, []).append(sample)
        print(f"scans: round {number} of {options.rounds}", flush=True)
    shutil.rmtree(tree)
    return [first, second]


def _measure_round(folder: Path, tree: Path, cores: Cores) -> list[tuple[str, str, Sample]]:
    scan_folder = folder / "scans"
    shutil.rmtree(scan_folder, ignore_errors=True)
    scan_folder.mkdir()
    ours, minimal = scan_folder / "ours.db", scan_folder / "bare.db"
    first_find = _run_measured(cores, "find", tree, "-printf", "%s %T@ %p\n")
    asyncio.run(_create_library(ours, tree))
    new = _run_measured(cores, sys.executable, "-m", "bench.scans", "scan", ours)
    again = _run_measured(cores, sys.executable, "-m", "bench.scans", "scan", ours)
    second_find = _run_measured(cores, "find", tree, "-printf", "%s %T@ %p\n")
    asyncio.run(upgrade_catalog(f"sqlite:///{minimal}"))
    inserted = _run_measured(cores, sys.executable, "-m", "bench.scans", "insert", ours, minimal)
    minimum = {name: first_find[name] + inserted[name] for name in ("seconds", "cpu_seconds")}
    return [
        ("first", "mediavault", new),
        ("first", "find and inserts", minimum),
        ("second", "mediavault", again),
        ("second", "find", second_find),
    ]


def _run_measured(cores: Cores, *command: str | Path) -> Sample:
    """A Python command reports its own sample as JSON in its last line; other commands are measured from outside."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    taskset = ["taskset", "-c", ",".join(map(str, sorted(cores.server)))]
    done = subprocess.run([*taskset, *map(str, command)], stdout=subprocess.PIPE, check=True, timeout=1800)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if command[0] == sys.executable:
        return json.loads(done.stdout.splitlines()[-1])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu}


def _create_tree(tree: Path, files: int) -> None:
    for number in range(0, files, PER_FOLDER):
        subfolder = tree / f"{number // PER_FOLDER // 50:03}" / f"{number // PER_FOLDER:05}"
        subfolder.mkdir(parents=True)
        for each in range(min(PER_FOLDER, files - number)):
            descriptor = os.open(subfolder / f"IMG_{number + each:07}.jpg", os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, b"x" * (each + 1))
            os.close(descriptor)


async def _create_library(database: Path, tree: Path) -> None:
    catalog = await open_catalog(f"sqlite:///{database}")
    owner = await catalog.users.create("bench@example.org", "Bench")
    await catalog.libraries.create(owner.id, "Bench", (str(tree),), DEFAULT_EXCLUSIONS)
    await catalog.aclose()


async def _scan(database: Path) -> Sample:
    """Scan like `mediavault library scan`; the start of the interpreter is not measured."""
    from app.config import Settings  # noqa: PLC0415 - imported in the measured process only
    from app.libraries.service import LibraryService  # noqa: PLC0415

    settings = Settings(_env_file=None, DB_URL=f"sqlite:///{database}")  # pyright: ignore[reportCallIssue]
    catalog: Catalog = await open_catalog(f"sqlite:///{database}")
    libraries = LibraryService(catalog, settings)
    (library,) = await catalog.libraries.list()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    report = await libraries.scan(library.id)
    sample = _measure_usage(began, usage)
    libraries.close()
    await catalog.aclose()
    if not report.complete:
        raise SystemExit(f"the scan was not complete: {report}")
    return sample


def _insert(source: Path, target: Path) -> Sample:
    """Insert the rows of a scanned catalogue into an empty one, with the driver's `executemany` and transactions of the scan's size."""
    scanned = sqlite3.connect(source)
    into = sqlite3.connect(target, isolation_level=None)
    into.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
    for table in ("user", "library", "library_folder"):
        _copy(into, table, scanned.execute(f'SELECT * FROM "{table}"').fetchall())
    rows = {table: scanned.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in TABLES}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    for start in range(0, len(rows["file"]), BATCH):
        into.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            _copy(into, table, rows[table][start : start + BATCH])
        into.execute("COMMIT")
    return _measure_usage(began, usage)


def _copy(into: sqlite3.Connection, table: str, rows: list[tuple[object, ...]]) -> None:
    placeholders = ", ".join("?" * len(rows[0]))
    into.executemany(f'INSERT INTO "{table}" VALUES ({placeholders})', rows)


def _measure_usage(began: float, before: resource.struct_rusage) -> Sample:
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "memory_mib": read_peak_bytes(os.getpid()) / MEBIBYTE}


def main() -> None:
    """Run one measured task in this process."""
    work, *paths = sys.argv[1:]
    sample = asyncio.run(_scan(Path(paths[0]))) if work == "scan" else _insert(Path(paths[0]), Path(paths[1]))
    print(json.dumps(sample))


if __name__ == "__main__":
    main()
