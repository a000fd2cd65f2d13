"""Measures uploads of many small photos over several connections at once, to disk."""

from __future__ import annotations

from bench import load
from bench.contestants import Contestant, remove_uploads
from bench.processes import Cores
from bench.rows import ResultRow, Sample, measure_rounds

SMALL_UPLOADS = "uploads of small photos"
PHOTO_BYTES = 1024**2
PHOTOS = 300
CONNECTIONS = 8


def measure_small_uploads(contestants: list[Contestant], rounds: int, cores: Cores) -> ResultRow:
    def once(contestant: Contestant) -> Sample:
        server = contestant.server
        before = server.cpu_seconds()
        answers, seconds = load.upload_photos(
            server.port,
            contestant.path,
            headers=contestant.headers,
            size=PHOTO_BYTES,
            count=PHOTOS,
            connections=CONNECTIONS,
            cores=cores,
        )
        cpu = server.cpu_seconds() - before
        remove_uploads(contestant, [answer["id"] for answer in answers])
        return {
            "cpu_milliseconds_per_photo": cpu / PHOTOS * 1000,
            "photos_per_second": PHOTOS / seconds,
            "server_busy": cpu / seconds,
        }

    return measure_rounds(ResultRow(SMALL_UPLOADS, "cpu_milliseconds_per_photo"), contestants, rounds, once)
