"""Measures each kind of work for all contestants in interleaved rounds, so that noise affects all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from bench import load
from bench.contestants import Contestant, remove_uploads
from bench.processes import Cores, warm_free_memory

GIBIBYTE = 1024**3
CONNECTIONS = 16

Sample = dict[str, float]


@dataclass(slots=True)
class ResultRow:
    """One kind of work. `samples` by contestant, one for each round; `figure` is the key of the compared value."""

    name: str
    figure: str
    samples: dict[str, list[Sample]] = field(default_factory=dict)


class Named(Protocol):
    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)


def measure_rounds(
    row: ResultRow, contestants: Iterable[NamedT], rounds: int, once: Callable[[NamedT], Sample]
) -> ResultRow:
    """Measure each contestant once a round, in an order that rotates. The first round warms up and is discarded."""
    order = list(contestants)
    for number in range(rounds + 1):
        for contestant in order:
            sample = once(contestant)
            if number:
                row.samples.setdefault(contestant.name, []).append(sample)
        print(f"{row.name}: round {number} of {rounds}", flush=True)
        order.append(order.pop(0))
    return row


def measure_ranges(
    name: str, contestants: list[Contestant], size: int, seconds: int, rounds: int, cores: Cores
) -> ResultRow:
    def once(contestant: Contestant) -> Sample:
        before = contestant.server.cpu_seconds()
        counted = load.request_random_ranges(
            contestant.url,
            size=size,
            connections=CONNECTIONS,
            seconds=seconds,
            headers=contestant.headers,
            cores=cores,
        )
        cpu = contestant.server.cpu_seconds() - before
        return {
            "requests_per_second": counted.requests / counted.seconds,
            "requests_per_cpu_second": counted.requests / max(cpu, 0.01),
            "server_busy": cpu / counted.seconds,
        }

    return measure_rounds(ResultRow(name, "requests_per_cpu_second"), contestants, rounds, once)


def measure_small_files(
    name: str, contestants: list[Contestant], size: int, seconds: int, rounds: int, cores: Cores
) -> ResultRow:
    """A file of `size` bytes, whole, again and again."""

    def once(contestant: Contestant) -> Sample:
        before = contestant.server.cpu_seconds()
        counted = load.request_whole_file(
            contestant.url, size=size, connections=CONNECTIONS, seconds=seconds, headers=contestant.headers, cores=cores
        )
        cpu = contestant.server.cpu_seconds() - before
        return {
            "requests_per_second": counted.requests / counted.seconds,
            "requests_per_cpu_second": counted.requests / max(cpu, 0.01),
            "server_busy": cpu / counted.seconds,
        }

    return measure_rounds(ResultRow(name, "requests_per_cpu_second"), contestants, rounds, once)


def measure_whole_file(
    name: str, contestants: list[Contestant], size: int, times: int, rounds: int, cores: Cores
) -> ResultRow:
    def once(contestant: Contestant) -> Sample:
        before = contestant.server.cpu_seconds()
        load.fetch(
            contestant.server.port,
            contestant.path,
            headers=contestant.headers,
            size=size,
            times=times,
            cores=cores,
        )
        cpu = contestant.server.cpu_seconds() - before
        return {"cpu_seconds_per_gib": cpu / (size * times / GIBIBYTE)}

    return measure_rounds(ResultRow(name, "cpu_seconds_per_gib"), contestants, rounds, once)


def measure_zips(name: str, contestants: list[Contestant], content: int, rounds: int, cores: Cores) -> ResultRow:
    """`content`: total bytes of the files inside, the minimal size of the zip."""

    def once(contestant: Contestant) -> Sample:
        server = contestant.server
        before = server.cpu_seconds()
        received, seconds = load.drain(server.port, contestant.path, headers=contestant.headers, cores=cores)
        if received < content:
            raise SystemExit(f"{contestant.name} sent {received} bytes of a zip of {content}")
        return {"cpu_seconds": server.cpu_seconds() - before, "seconds": seconds}

    return measure_rounds(ResultRow(name, "seconds"), contestants, rounds, once)


def measure_uploads(contestants: list[Contestant], file: Path, rounds: int, cores: Cores) -> ResultRow:
    def once(contestant: Contestant) -> Sample:
        server = contestant.server
        warm_free_memory(file.parent, file.stat().st_size)
        server.reset_peak()
        resident, before = server.resident(), server.cpu_seconds()
        answer = load.upload(server.port, contestant.path, file, headers=contestant.headers, cores=cores)
        cpu = server.cpu_seconds() - before
        growth = server.peak() - resident
        remove_uploads(contestant, [answer["id"]])
        return {
            "cpu_seconds_per_gib": cpu / (file.stat().st_size / GIBIBYTE),
            "memory_growth_mib": growth / 1024**2,
        }

    return measure_rounds(ResultRow("upload", "cpu_seconds_per_gib"), contestants, rounds, once)
