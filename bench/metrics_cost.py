"""Measures what metrics cost: small files from memory, by a service that exports metrics and by one that does not.

Two processes of the same service differ by some per cent of CPU for as long as they run, so each round starts new ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import load
from bench.contestants import Contestant, mediavault
from bench.processes import Cores, free_port
from bench.rows import CONNECTIONS, ResultRow, Sample, measure_rounds

METRICS_ROW = "small files, with metrics"
WITHOUT = "without metrics"
FILE_BYTES = 20 * 1024


@dataclass(frozen=True, slots=True)
class _Variant:
    name: str
    settings: Mapping[str, str]


def measure_metrics_cost(folder: Path, seconds: int, rounds: int, cores: Cores) -> ResultRow:
    """CPU of the server for each request."""
    source = folder / "small.jpg"
    source.write_bytes(os.urandom(FILE_BYTES))

    def once(variant: _Variant) -> Sample:
        with (
            TemporaryDirectory(dir=folder) as place,
            mediavault(Path(place), cores, variant.settings) as service,
        ):
            answer = load.upload(service.server.port, service.path, source, headers=service.headers, cores=cores)
            file = replace(service, path=f"{service.path}/{answer['id']}/original")
            _request(file, 1, cores)  # warms up
            return _request(file, seconds, cores)

    variants = [_Variant("mediavault", {"MEDIAVAULT_METRICS_PORT": str(free_port())}), _Variant(WITHOUT, {})]
    return measure_rounds(ResultRow(METRICS_ROW, "cpu_microseconds_per_request"), variants, rounds, once)


def _request(file: Contestant, seconds: int, cores: Cores) -> Sample:
    before = file.server.cpu_seconds()
    counted = load.request_whole_file(
        file.url, size=FILE_BYTES, connections=CONNECTIONS, seconds=seconds, headers=file.headers, cores=cores
    )
    cpu = file.server.cpu_seconds() - before
    return {
        "cpu_microseconds_per_request": cpu / counted.requests * 1e6,
        "requests_per_second": counted.requests / counted.seconds,
        "server_busy": cpu / counted.seconds,
    }
