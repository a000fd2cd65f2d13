"""`python -m bench.pressure`: what one user's 200 downloads, and thousands of idle connections, do to others.

There is no peer: each round measures without the load, then with it. Files are in a SeaweedFS; clients and store share the cores with the
service.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import selectors
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from bench.report import save_results
from bench.rows import ResultRow, Sample
from tests.real.accounts import Account
from tests.real.databases import DatabaseFactory
from tests.real.postgres import Postgres
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import Service
from tests.real.stacks import Stacks
from tests.real.uploads import UploadConnection, uploaded

ROUNDS = 5
DOWNLOADS = 200
IDLE = 2000
TRICKLING = 200
THUMBNAILS = 300
THUMBNAIL_BYTES = 20_000
LARGE = 64 * 1024**2
PIECE = 64 * 1024
MOST_TIMES_P99 = 5
SETTINGS = {"MEDIAVAULT_CONNECTIONS": "4000", "MEDIAVAULT_DOWNLOADS_PER_USER": "1000"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mediavault-bench-") as name:
        rows = _measure(Path(name), options.rounds)
    for row in rows:
        for work, samples in row.samples.items():
            figures = {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}
            print(f"{row.name}, {work}: " + ", ".join(f"{key} {value:.2f}" for key, value in figures.items()))
    if options.rounds >= ROUNDS:
        print(f"raw figures: bench/results/{save_results('pressure', rows, options.rounds).name}")


def _measure(folder: Path, rounds: int) -> list[ResultRow]:
    thumbnails = ResultRow(f"another user's thumbnails from S3 beside {DOWNLOADS} downloads", "p99_ms")
    others = ResultRow(f"beside {IDLE} idle and {TRICKLING} trickling connections", "mib_per_second")
    with ExitStack() as stack:
        seaweedfs = stack.enter_context(SeaweedFS())
        databases = DatabaseFactory(_refuse_postgres)
        stack.callback(databases.close)
        place = Stacks(lambda: seaweedfs, databases).create("s3", folder / "service", database="sqlite")
        service = stack.enter_context(Service(place, settings=SETTINGS, spawned=False))
        greedy, other = service.people.add(), service.people.add()
        client = stack.enter_context(service.client(other, timeout=120))
        with service.client(greedy, timeout=120) as greedy_client:
            large = f"/api/assets/{uploaded(greedy_client, os.urandom(LARGE))}/original"
        small = [f"/api/assets/{uploaded(client, os.urandom(THUMBNAIL_BYTES))}/original" for _ in range(50)]
        own = f"/api/assets/{uploaded(client, os.urandom(LARGE))}/original"
        for _ in range(rounds):
            _add(thumbnails, "without", _measure_latencies(client, small, THUMBNAILS))
            with _downloading(service, greedy, large, DOWNLOADS, pause=1.0):
                _add(thumbnails, "slow downloads", _measure_latencies(client, small, THUMBNAILS))
            with _downloading(service, greedy, large, DOWNLOADS, pause=0.0):
                _add(thumbnails, "downloads as fast as they go", _measure_latencies(client, small, THUMBNAILS))
            _add(others, "without", _measure_others(client, own))
            with _idle(service, IDLE), _downloading(service, greedy, large, TRICKLING, pause=1.0):
                _add(others, "with", _measure_others(client, own))
    return [thumbnails, others]


def _refuse_postgres() -> Postgres:
    raise RuntimeError("SQLite is measured")


def _add(row: ResultRow, work: str, sample: Sample) -> None:
    row.samples.setdefault(work, []).append(sample)


def _measure_latencies(client: httpx.Client, paths: Sequence[str], count: int) -> Sample:
    taken: list[float] = []
    for number in range(count):
        began = time.monotonic()
        client.get(paths[number % len(paths)]).raise_for_status()
        taken.append((time.monotonic() - began) * 1000)
    taken.sort()
    return {"p50_ms": taken[count // 2], "p99_ms": taken[count * 99 // 100]}


def _measure_others(client: httpx.Client, path: str) -> Sample:
    live = _measure_latencies(client, ["/livez"], 200)
    began = time.monotonic()
    received = len(client.get(path).raise_for_status().content)
    return {"livez_p99_ms": live["p99_ms"], "mib_per_second": received / 1024**2 / (time.monotonic() - began)}


@contextmanager
def _idle(service: Service, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(UploadConnection(service.port))
        yield


@contextmanager
def _downloading(service: Service, account: Account, path: str, count: int, *, pause: float) -> Iterator[None]:
    """`count` clients that download the file again and again; each takes `PIECE` bytes and then nothing for `pause` seconds."""
    with ExitStack() as stack:
        wires: list[UploadConnection] = []
        for _ in range(count):
            wires.append(stack.enter_context(UploadConnection(service.port, receive_buffer=PIECE, patience=120)))
            wires[-1].send_head("GET", path, account.headers)
        # A process, so that it does not share the interpreter with the client that measures.
        reading = multiprocessing.get_context("fork").Process(target=_read_slowly, args=(wires, pause), daemon=True)
        reading.start()
        stack.callback(reading.join)
        stack.callback(reading.terminate)
        time.sleep(3.0)  # until all of them are under way
        yield


def _read_slowly(wires: Sequence[UploadConnection], pause: float) -> None:
    selector = selectors.DefaultSelector()
    for wire in wires:
        selector.register(wire._socket, selectors.EVENT_READ)  # noqa: SLF001
    while True:
        for key, _ in selector.select():
            with suppress(OSError):
                key.fileobj.recv(PIECE)  # pyright: ignore[reportAttributeAccessIssue]
        time.sleep(pause)


if __name__ == "__main__":
    main()
