"""Generates load on the load's core: random ranges with wrk, whole files and uploads with `bench.client`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.processes import ROOT, Cores

RANGE_BYTES = 64 * 1024
TIMEOUT_SECONDS = 300
HEADER_BYTES = 2048
"""Limit on the bytes of an answer's head, in addition to its range."""


@dataclass(frozen=True, slots=True)
class RangeCounts:
    """Requests and seconds that one run of wrk counted."""

    requests: int
    seconds: float


def request_random_ranges(
    url: str, *, size: int, connections: int, seconds: int, headers: Mapping[str, str], cores: Cores
) -> RangeCounts:
    """Request random ranges of 64 KiB of a file of `size` bytes. Ends the benchmark if an answer is not such a range."""
    header_arguments = [word for pair in headers.items() for word in pair]
    output = _run_on_core(
        cores,
        "wrk",
        *("--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
        *("--script", str(ROOT / "bench" / "random_ranges.lua"), url, "--", str(size), *header_arguments),
    )
    counted = json.loads(output.splitlines()[-1])
    each = counted["bytes"] / max(counted["requests"], 1)
    # wrk also counts the bytes of answers that were incomplete at its end.
    slack = connections * RANGE_BYTES / max(counted["requests"], 1)
    if counted["failed"] or not RANGE_BYTES <= each <= RANGE_BYTES + HEADER_BYTES + slack:
        raise SystemExit(f"wrong answers to ranges of {url}: {output}")
    return RangeCounts(counted["requests"], counted["microseconds"] / 1e6)


def request_whole_file(
    url: str, *, size: int, connections: int, seconds: int, headers: Mapping[str, str], cores: Cores
) -> RangeCounts:
    """Request a file of `size` bytes again and again. Ends the benchmark if an answer is not that file."""
    output = _run_on_core(
        cores,
        "wrk",
        *("--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
        *(
            "--script",
            str(ROOT / "bench" / "whole_file.lua"),
            url,
            "--",
            *(word for pair in headers.items() for word in pair),
        ),
    )
    counted = json.loads(output.splitlines()[-1])
    if counted["failed"] or counted["bytes"] < counted["requests"] * size:
        raise SystemExit(f"wrong answers from {url}: {output}")
    return RangeCounts(counted["requests"], counted["microseconds"] / 1e6)


def fetch(port: int, path: str, *, headers: Mapping[str, str], size: int, times: int, cores: Cores) -> None:
    """Download the whole file `times` times over one connection and discard it."""
    _run_client(cores, "fetch", port=port, path=path, headers=dict(headers), size=size, times=times)


def drain(port: int, path: str, *, headers: Mapping[str, str], cores: Cores) -> tuple[int, float]:
    """Read an answer of any length until the connection closes; returns bytes and seconds."""
    counted = json.loads(_run_client(cores, "drain", port=port, path=path, headers=dict(headers)))
    return counted["bytes"], counted["seconds"]


def upload(port: int, path: str, file: Path, *, headers: Mapping[str, str], cores: Cores) -> dict[str, str]:
    """Upload `file` as a form, with sixteen random bytes before it so that it is no duplicate; returns the JSON answer."""
    output = _run_client(
        cores, "upload", port=port, path=path, headers=dict(headers), file=str(file), salt=uuid.uuid4().hex
    )
    return json.loads(output)


def upload_photos(
    port: int, path: str, *, headers: Mapping[str, str], size: int, count: int, connections: int, cores: Cores
) -> tuple[list[dict[str, str]], float]:
    """Upload so many photos of `size` random bytes; returns the JSON answers, and the seconds that all took."""
    output = _run_client(
        cores,
        "upload_photos",
        port=port,
        path=path,
        headers=dict(headers),
        size=size,
        count=count,
        connections=connections,
    )
    counted = json.loads(output)
    return counted["answers"], counted["seconds"]


def upload_in_chunks(
    port: int,
    path: str,
    file: Path,
    *,
    headers: Mapping[str, str],
    chunk_bytes: int,
    size: int,
    sessions: int,
    cores: Cores,
) -> list[str]:
    """Upload the first `size` bytes of `file` by tus, `sessions` times at once; returns the ids of mediavault's assets."""
    output = _run_client(
        cores,
        "upload_in_chunks",
        port=port,
        path=path,
        headers=dict(headers),
        file=str(file),
        salt=uuid.uuid4().hex,
        chunk_bytes=chunk_bytes,
        size=size,
        sessions=sessions,
    )
    return json.loads(output)


def _run_client(cores: Cores, action: str, **parameters: object) -> str:
    return _run_on_core(cores, sys.executable, "-m", "bench.client", action, json.dumps(parameters))


def _run_on_core(cores: Cores, *command: str) -> str:
    finished = subprocess.run(
        ["taskset", "--cpu-list", ",".join(map(str, cores.load)), *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(f"the client failed: {finished.stderr or finished.stdout}")
    return finished.stdout
