"""Benchmarks of zips: many photos from disk against Node's archiver, and many small objects from an S3 server with added latency."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from bench import contestants, load, rows
from bench.contestants import Contestant
from bench.processes import Cores, free_port, run_server
from tests.real.proxy import Fault, Proxy
from tests.real.seaweedfs import SeaweedFS

PHOTOS, PHOTO_BYTES = 200, 4 * 1024**2
OBJECTS, OBJECT_BYTES = 500, 32 * 1024
LATENCY_SECONDS = 0.03
UPLOADS_AT_ONCE = 4


def measure_zips_from_disk(
    folder: Path, service: Contestant, options: argparse.Namespace, cores: Cores
) -> list[rows.ResultRow]:
    """Returns no rows if Node is not installed."""
    if not contestants.is_node_installed():
        print("Node's archiver is left out: there is no node or npm here")
        return []
    photos = folder / "photos"
    photos.mkdir()
    for number in range(PHOTOS):
        (photos / f"{number}.jpg").write_bytes(os.urandom(PHOTO_BYTES))
    participants = [_create_archive_link(service, [path.read_bytes() for path in sorted(photos.iterdir())])]
    with _run_archiver(folder, photos, cores) as archiver:
        participants.append(archiver)
        return [rows.measure_zips("zip from disk", participants, PHOTOS * PHOTO_BYTES, options.rounds, cores)]


def measure_zips_from_s3(folder: Path, options: argparse.Namespace, cores: Cores) -> list[rows.ResultRow]:
    """mediavault against itself with a read-ahead of one object, on one store; a proxy delays every request by `LATENCY_SECONDS`."""
    with ExitStack() as stack:
        seaweedfs = stack.enter_context(SeaweedFS())
        proxy = stack.enter_context(Proxy(seaweedfs.port))
        participants: list[Contestant] = []
        for name, module in (("mediavault", "app.cli"), ("one ahead", "bench.peers.one_ahead")):
            service_folder = folder / name.replace(" ", "-")
            service_folder.mkdir()
            settings = build_s3_settings(seaweedfs, proxy.endpoint, seaweedfs.create_bucket())
            service = stack.enter_context(contestants.mediavault(service_folder, cores, settings, module=module))
            participants.append(
                replace(_create_archive_link(service, [os.urandom(OBJECT_BYTES) for _ in range(OBJECTS)]), name=name)
            )
        proxy.faults.append(Fault(delay=LATENCY_SECONDS))
        return [rows.measure_zips("zip from S3", participants, OBJECTS * OBJECT_BYTES, options.rounds, cores)]


def build_s3_settings(seaweedfs: SeaweedFS, endpoint: str, bucket: str) -> dict[str, str]:
    return {
        "IMMICH_STORAGE_ENGINE": "s3",
        "S3_ENDPOINT": endpoint,
        "S3_BUCKET": bucket,
        "S3_FORCE_PATH_STYLE": "true",
        "S3_ACCESS_KEY_ID": seaweedfs.admin.access_key,
        "S3_SECRET_ACCESS_KEY": seaweedfs.admin.secret_key,
    }


def _create_archive_link(service: Contestant, contents: list[bytes]) -> Contestant:
    """Upload `contents` and create a link to a zip of all of them."""
    base = f"http://127.0.0.1:{service.server.port}"
    with httpx.Client(base_url=base, headers=service.headers, timeout=load.TIMEOUT_SECONDS) as client:

        def upload(content: bytes) -> str:
            form = {"fileCreatedAt": "2024-06-01T12:00:00Z", "fileModifiedAt": "2024-06-01T12:00:00Z"}
            answer = client.post("/api/assets", data=form, files={"assetData": ("photo.jpg", content)})
            return answer.raise_for_status().json()["id"]

        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
            ids = list(threads.map(upload, contents))
        link = client.post("/api/download/links", json={"assetIds": ids}).raise_for_status().json()
    return Contestant(service.name, service.server, link["url"])


@contextmanager
def _run_archiver(folder: Path, photos: Path, cores: Cores) -> Iterator[Contestant]:
    port = free_port()
    modules = contestants.install_npm_modules("archiver", contestants.ARCHIVER_VERSION)
    environment = {"BENCH_FOLDER": str(photos), "BENCH_PORT": str(port), "NODE_PATH": str(modules)}
    command = ["node", Path(__file__).parent / "peers" / "archiver.cjs"]
    log = folder / "archiver.log"
    with run_server(command, port=port, cores=cores, environment=environment, folder=folder, log=log) as server:
        yield Contestant("archiver", server, "/photos.zip")
