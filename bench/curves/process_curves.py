"""Requests per second, and for each second of CPU, by the number of serving processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.curves.measured_service import measured_service
from tests.real.uploads import some_bytes, upload

PROCESSES = (1, 2, 4)
CONNECTIONS = 32
SECONDS = 10
JPEG_BYTES = 256 * 1024

Sample = dict[str, float]


def measure_processes(folder: Path, rounds: int) -> Iterator[Sample]:
    """Thumbnail-sized files over SQLite, from wrk. Rounds are interleaved: the machine may be busy with other work."""
    for number in range(rounds):
        for processes in PROCESSES:
            place = folder / f"processes-{number}-{processes}"
            sample = _measure(place, processes)
            print(f"{processes} processes: {sample}", flush=True)
            yield sample


def _measure(folder: Path, processes: int) -> Sample:
    with measured_service(folder, "sqlite", {"MEDIAVAULT_PROCESSES": str(processes)}) as running:
        data = b"\xff\xd8\xff\xe0" + some_bytes(JPEG_BYTES, 1)
        answer = upload(running.client, data)
        answer.raise_for_status()
        url = f"{running.service.url}/api/assets/{answer.json()['id']}/original"
        before, began = running.cpu_seconds(), time.monotonic()
        output = subprocess.run(
            [
                *("wrk", "--threads", "2", "--connections", str(CONNECTIONS), "--duration", f"{SECONDS}s"),
                *("--header", f"x-api-key: {running.account.key}", url),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        seconds, cpu = time.monotonic() - began, running.cpu_seconds() - before
        count = next(int(line.split()[0]) for line in output.splitlines() if "requests in" in line)
        if "Non-2xx" in output:
            raise SystemExit(output)
    return {
        "processes": processes,
        "requests_per_second": count / seconds,
        "requests_per_cpu_second": count / cpu,
        "busy_cores": cpu / seconds,
        "load_average": os.getloadavg()[0],
    }
