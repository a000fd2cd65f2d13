"""Benchmark of reads from S3: mediavault against rclone and nginx, all serving the same object of a SeaweedFS."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from bench import contestants, load, rows
from bench.archives import build_s3_settings
from bench.processes import Cores
from tests.real.seaweedfs import SeaweedFS

LINK_SECONDS = 24 * 3600


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
