"""Measures resumable uploads by tus in chunks of 8 MiB, beside our own plain upload and another tus server for Python."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import contestants, load
from bench.contestants import Contestant, remove_uploads
from bench.processes import Cores, warm_free_memory
from bench.rows import GIBIBYTE, ResultRow, Sample, measure_rounds

ROW = "resumable upload"
ROW_AT_ONCE = "16 resumable uploads at once"
CHUNK_BYTES = 8 * 1024**2
SESSIONS = 16
PLAIN = "plain upload"

_Upload = Callable[[Contestant], list[str]]
"""Uploads, and returns the ids that were answered."""


def measure_resumable_uploads(
    folder: Path, service: Contestant, file: Path, rounds: int, cores: Cores
) -> list[ResultRow]:
    """`service` is mediavault; `file` is uploaded whole, and sixteen times its sixteenth at once."""
    tus = replace(service, path="/api/uploads")
    plain = replace(service, name=PLAIN)
    files = folder / "tus"
    size = file.stat().st_size

    def upload(contestant: Contestant) -> list[str]:
        if contestant.name == PLAIN:
            return [load.upload(plain.server.port, plain.path, file, headers=plain.headers, cores=cores)["id"]]
        return upload_by_tus(contestant, 1)

    def upload_by_tus(contestant: Contestant, sessions: int) -> list[str]:
        return load.upload_in_chunks(
            contestant.server.port,
            contestant.path,
            file,
            headers=contestant.headers,
            chunk_bytes=CHUNK_BYTES,
            size=size // sessions,
            sessions=sessions,
            cores=cores,
        )

    def measure(contestant: Contestant, upload: _Upload) -> Sample:
        server = contestant.server
        warm_free_memory(folder, size)
        server.reset_peak()
        resident, before = server.resident(), server.cpu_seconds()
        answers = upload(contestant)
        sample = {
            "cpu_seconds_per_gib": (server.cpu_seconds() - before) / (size / GIBIBYTE),
            "memory_growth_mib": (server.peak() - resident) / 1024**2,
        }
        if contestant.stored_files is None:
            shutil.rmtree(files)
        else:
            remove_uploads(contestant, answers)
        return sample

    with contestants.tus_server(folder, files, cores) as peer:
        one = measure_rounds(
            ResultRow(ROW, "cpu_seconds_per_gib"), [tus, plain, peer], rounds, lambda each: measure(each, upload)
        )
        many = measure_rounds(
            ResultRow(ROW_AT_ONCE, "cpu_seconds_per_gib"),
            [tus, peer],
            rounds,
            lambda each: measure(each, lambda contestant: upload_by_tus(contestant, SESSIONS)),
        )
    return [one, many]
