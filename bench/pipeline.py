"""Benchmark of the whole pipeline on all cores: each photo is read from S3, decoded in a process of its own, and its derivatives are written to
S3 and inserted into the catalogue.

There is no peer; the result is the throughput of one host.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from bench import contestants, load
from bench.archives import build_s3_settings
from bench.contestants import Contestant
from bench.photos import build_corpus
from bench.processes import Cores, free_port, run_server
from bench.rows import ResultRow, Sample, measure_rounds
from tests.real.seaweedfs import SeaweedFS

PHOTOS = 96
ROW = "pipeline from S3"

_QUEUE = "/api/jobs/thumbnailGeneration"
_POLL_SECONDS = 0.05
_DONE_SECONDS = 900
_START_OF_IMAGE = b"\xff\xd8"
_COMMENT = b"\xff\xfe"


def measure_pipeline(folder: Path, options: Namespace, cores: Cores) -> list[ResultRow]:
    """Upload `options.photos` photos while nothing is processed; then have all of them processed, in each round anew."""
    service_folder = folder / ROW.replace(" ", "-")
    service_folder.mkdir()
    with ExitStack() as stack:
        os.sched_setaffinity(0, cores.every)  # inherited by child processes
        stack.callback(os.sched_setaffinity, 0, cores.load)
        seaweedfs = stack.enter_context(SeaweedFS())
        settings = build_s3_settings(seaweedfs, seaweedfs.endpoint, seaweedfs.create_bucket())
        with contestants.mediavault(service_folder, cores, settings) as idle:
            _upload(idle, service_folder, options.photos)
        service = stack.enter_context(_run_service(service_folder, cores, settings, idle.headers))
        base = f"http://127.0.0.1:{service.server.port}"
        client = stack.enter_context(httpx.Client(base_url=base, headers=service.headers, timeout=load.TIMEOUT_SECONDS))
        _wait_until_processed(client)  # the tasks of the uploads

        def once(contestant: Contestant) -> Sample:
            before = contestant.server.cpu_seconds_with_ended()
            begun = time.monotonic()
            client.put(_QUEUE, json={"command": "start", "force": True}).raise_for_status()
            _wait_until_processed(client)
            seconds = time.monotonic() - begun
            cpu = contestant.server.cpu_seconds_with_ended() - before
            return {
                "photos_per_second": options.photos / seconds,
                "cpu_seconds_per_photo": cpu / options.photos,
                "photos": options.photos,
                "processors": len(cores.every),
            }

        return [measure_rounds(ResultRow(ROW, "photos_per_second"), [service], options.rounds, once)]


def _upload(service: Contestant, folder: Path, number: int) -> None:
    """Upload `number` JPEGs of the corpus in rotation, each with a unique comment so that none is a duplicate."""
    photos = [path.read_bytes() for path in build_corpus(folder) if path.suffix == ".jpg"]
    base = f"http://127.0.0.1:{service.server.port}"
    form = {"fileCreatedAt": "2024-06-01T12:00:00Z", "fileModifiedAt": "2024-06-01T12:00:00Z"}
    with httpx.Client(base_url=base, headers=service.headers, timeout=load.TIMEOUT_SECONDS) as client:
        for count in range(number):
            content = _add_comment(photos[count % len(photos)], count)
            answer = client.post(service.path, data=form, files={"assetData": (f"{count}.jpg", content)})
            if answer.raise_for_status().json()["status"] != "created":
                raise SystemExit("a photo is there already")


def _add_comment(photo: bytes, number: int) -> bytes:
    comment = b"%08d" % number
    return _START_OF_IMAGE + _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment + photo[2:]


@contextmanager
def _run_service(folder: Path, cores: Cores, settings: dict[str, str], headers: dict[str, str]) -> Iterator[Contestant]:
    """The service with its workers on all cores, which the store shares."""
    port, log = free_port(), folder / "working.log"
    command = [sys.executable, "-m", "app.cli", "serve"]
    environment = {"IMMICH_PORT": str(port), **settings}
    everywhere = Cores(cores.every, cores.every, cores.every)
    with run_server(command, port=port, cores=everywhere, environment=environment, folder=folder, log=log) as server:
        yield Contestant("mediavault", server, "/api/assets", headers)


def _wait_until_processed(client: httpx.Client) -> None:
    """Wait until no photo is waiting or being processed."""
    deadline = time.monotonic() + _DONE_SECONDS
    while time.monotonic() < deadline:
        counts = client.get("/api/jobs").raise_for_status().json()["thumbnailGeneration"]["jobCounts"]
        if counts["failed"]:
            raise SystemExit(f"{counts['failed']} photos could not be processed")
        if not counts["active"] + counts["waiting"] + counts["delayed"]:
            return
        time.sleep(_POLL_SECONDS)
    raise SystemExit(f"the photos were not processed within {_DONE_SECONDS} seconds")
