"""Benchmark of a move to S3 with read-back, against `rclone copy` and `rclone check --download` to the same store; and the memory of a plan
of a million files.

Both copy the same folder to an empty prefix. mediavault's catalogue is prepared once, and each round works on a copy of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.config import StorageEngine
from bench.contestants import install_rclone
from bench.processes import read_peak_bytes
from bench.rows import ResultRow, Sample
from tests.migration.library import Library
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import ROOT
from tests.real.stacks import Bucket, Stack

SMALL_FILES, SMALL_BYTES = 2000, 100 * 1024
LARGE_FILES = 20
PLANNED_FILES = 1_000_000
TRANSFERS = 8
POLL_SECONDS = 0.02
_NOW = "2024-06-01 12:00:00.000000"
_BATCH = 10_000


def measure_moves(folder: Path, options: argparse.Namespace) -> list[ResultRow]:
    """`options.mebibytes` is the total size of the large files."""
    move_folder = folder / "move"
    move_folder.mkdir()
    row = ResultRow("move to S3", "seconds")
    with SeaweedFS() as store:
        bucket = store.create_bucket()
        stack = Stack(
            "s3", move_folder, f"sqlite:///{move_folder}/catalogue.db", Bucket(store, bucket, "seed", store.admin)
        )
        sizes = [SMALL_BYTES] * SMALL_FILES + [options.mebibytes * 1024**2 // LARGE_FILES] * LARGE_FILES
        asyncio.run(_fill_library(stack, sizes))
        for number in range(options.rounds + 1):
            samples = {
                "mediavault": _move_with_mediavault(stack, number, len(sizes)),
                "rclone": _copy_with_rclone(stack, number),
            }
            if number:
                for name, sample in samples.items():
                    row.samples.setdefault(name, []).append(sample)
            print(f"{row.name}: round {number} of {options.rounds}", flush=True)
        planned = ResultRow(
            "plan of a million files", "memory_mib", {"mediavault": [_measure_large_plan(move_folder, store)]}
        )
    return [row, planned]


async def _fill_library(stack: Stack, sizes: list[int]) -> None:
    library = await Library.create(stack, StorageEngine.S3)
    await library.fill(sizes)
    await library.aclose()


def _move_with_mediavault(stack: Stack, number: int, files: int) -> Sample:
    catalogue = stack.folder / f"round-{number}.db"
    shutil.copyfile(stack.folder / "catalogue.db", catalogue)
    changes = {"DB_URL": f"sqlite:///{catalogue}", "S3_PREFIX": f"ours-{number}"}
    # The target is empty: the command first creates its marker, as the service's start does.
    command = ["migrate", "run", "--to", "s3", "--verify", "readback", "--concurrency", str(TRANSFERS), "--json"]
    began = time.monotonic()
    report = json.loads(_run_mediavault(stack, changes, command))
    seconds = time.monotonic() - began
    if (report["files"], report["problemCount"]) != (files, 0):
        raise SystemExit(f"mediavault moved {report['files']} of {files} files: {report['problems'][:3]}")
    return {"seconds": seconds}


def _copy_with_rclone(stack: Stack, number: int) -> Sample:
    assert stack.bucket
    server = stack.bucket.server
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(stack.folder),
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_STORE_ENDPOINT": server.endpoint,
        "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": server.admin.access_key,
        "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": server.admin.secret_key,
        "RCLONE_CONFIG_STORE_REGION": "us-east-1",
        "RCLONE_TRANSFERS": str(TRANSFERS),
        "RCLONE_CONFIG": str(stack.folder / "rclone.conf"),
    }
    endpoints = [str(stack.media), f"store:{stack.bucket.name}/theirs-{number}"]
    began = time.monotonic()
    for words in (["copy", *endpoints], ["check", "--download", *endpoints]):
        subprocess.run([str(install_rclone()), *words, "--quiet"], env=environment, check=True)
    return {"seconds": time.monotonic() - began}


def _build_command(stack: Stack, changes: dict[str, str], command: list[str]) -> dict[str, Any]:
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), **stack.settings, **changes}
    return {"args": [sys.executable, "-m", "app.cli", *command], "env": environment, "cwd": stack.folder}


def _run_mediavault(stack: Stack, changes: dict[str, str], command: list[str]) -> str:
    done = subprocess.run(**_build_command(stack, changes, command), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return done.stdout


def _measure_large_plan(folder: Path, store: SeaweedFS) -> Sample:
    """Rows made directly, without their files: every one of them is a problem, too."""
    move_folder = folder / "million"
    move_folder.mkdir()
    bucket = Bucket(store, store.create_bucket(), "plan", store.admin)
    stack = Stack("s3", move_folder, f"sqlite:///{move_folder}/catalogue.db", bucket)
    asyncio.run(_fill_library(stack, []))
    _insert_files(move_folder / "catalogue.db", stack.media)
    began = time.monotonic()
    output, peak = move_folder / "plan.json", 0
    with output.open("wb") as file:
        planning = subprocess.Popen(
            **_build_command(stack, {}, ["migrate", "plan", "--to", "s3", "--json"]), stdout=file
        )
        while planning.poll() is None:
            peak = max(peak, read_peak_bytes(planning.pid))
            time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - began
    report = json.loads(output.read_bytes())
    if report["files"] != PLANNED_FILES:
        raise SystemExit(f"{report['files']} of {PLANNED_FILES} files were planned")
    return {"memory_mib": peak / 1024**2, "seconds": seconds}


def _insert_files(catalogue: Path, media: Path) -> None:
    with closing(sqlite3.connect(catalogue)) as connection:
        owner = connection.execute('SELECT id FROM "user"').fetchone()[0]
        for first in range(0, PLANNED_FILES, _BATCH):
            rows = [
                (uuid4().hex, owner, f"{media}/upload/{owner}/{number % 256:02x}/{number}.jpg", number, b"x" * 20, 1)
                for number in range(first, first + _BATCH)
            ]
            connection.executemany(
                "INSERT INTO file (id, owner_id, kind, path, state, size, sha1, crc32, mime_type, created_at, not_before)"
                f" VALUES (?, ?, 'original', ?, 'live', ?, ?, ?, 'image/jpeg', '{_NOW}', '{_NOW}')",
                rows,
            )
        connection.commit()
