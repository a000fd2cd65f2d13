"""Benchmark of reads from S3: mediavault against rclone and nginx, all serving the same object of a SeaweedFS."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path

from bench import contestants, load, rows
from bench.archives import build_s3_settings
from bench.processes import Cores
from tests.real.seaweedfs import SeaweedFS

LINK_SECONDS = 24 * 3600
CACHED_RANGES, CACHED_SMALL, CACHED_WHOLE = (
    f"{work} from the cache for S3" for work in ("64 KiB ranges", "whole files of 20 KiB", "whole file")
)
LOCAL = "local disk"
SMALL_BYTES = 20 * 1024


def measure_s3_reads(folder: Path, source: Path, options: argparse.Namespace, cores: Cores) -> list[rows.ResultRow]:
    """Upload `source` through mediavault, then read that object from all contestants: ranges, then the whole file."""
    service_folder = folder / "on-s3"
    service_folder.mkdir()
    with ExitStack() as stack:
        seaweedfs = stack.enter_context(SeaweedFS())
        bucket = seaweedfs.create_bucket()
        settings = build_s3_settings(seaweedfs, seaweedfs.endpoint, bucket)
        service = stack.enter_context(contestants.mediavault(service_folder, cores, settings))
        answer = load.upload(service.server.port, service.path, source, headers=service.headers, cores=cores)
        objects = seaweedfs.objects(bucket)
        key = max(objects, key=lambda name: objects[name])
        link = seaweedfs.administration.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=LINK_SECONDS
        )
        identity = seaweedfs.admin
        store = contestants.StoredObject(
            seaweedfs.endpoint, identity.access_key, identity.secret_key, bucket, key, link
        )
        path = f"{service.path}/{answer['id']}/original"
        readers = [
            contestants.Contestant(service.name, service.server, path, service.headers),
            stack.enter_context(contestants.rclone(service_folder, store, cores)),
            stack.enter_context(contestants.nginx_proxying_s3(service_folder, store, cores)),
        ]
        size, rounds = objects[key], options.rounds
        return [
            rows.measure_ranges("64 KiB ranges from S3", readers, size, options.seconds, rounds, cores),
            rows.measure_whole_file("whole file from S3", readers, size, 1, rounds, cores),
        ]


def measure_cached_reads(folder: Path, source: Path, options: argparse.Namespace, cores: Cores) -> list[rows.ResultRow]:
    """The same files from a service with a local folder, and from one that has them in S3 and in its cache."""
    small = folder / "small.jpg"
    small.write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(SMALL_BYTES - 4))
    with ExitStack() as stack:
        seaweedfs = stack.enter_context(SeaweedFS())
        s3_settings = build_s3_settings(seaweedfs, seaweedfs.endpoint, seaweedfs.create_bucket())
        places = {
            "mediavault": s3_settings
            | {"MEDIAVAULT_CACHE_FOLDER": str(folder / "cache"), "MEDIAVAULT_CACHE_ORIGINALS": "always"},
            LOCAL: {},
        }
        readers: dict[Path, list[contestants.Contestant]] = {source: [], small: []}
        for name, settings in places.items():
            place = folder / f"cached-{len(readers[source])}"
            place.mkdir()
            service = stack.enter_context(contestants.mediavault(place, cores, settings))
            for file, same in readers.items():
                answer = load.upload(service.server.port, service.path, file, headers=service.headers, cores=cores)
                path = f"{service.path}/{answer['id']}/original"
                same.append(contestants.Contestant(name, service.server, path, service.headers))
                load.fetch(
                    service.server.port,
                    path,
                    headers=service.headers,
                    size=file.stat().st_size,
                    times=2,
                    cores=cores,
                )
        size, seconds, rounds = source.stat().st_size, options.seconds, options.rounds
        return [
            rows.measure_ranges(CACHED_RANGES, readers[source], size, seconds, rounds, cores),
            rows.measure_small_files(CACHED_SMALL, readers[small], SMALL_BYTES, seconds, rounds, cores),
            rows.measure_whole_file(CACHED_WHOLE, readers[source], size, 1, rounds, cores),
        ]


MEASURES = {"s3": measure_s3_reads, "s3-cache": measure_cached_reads}
"""By the name of the kind of work."""
