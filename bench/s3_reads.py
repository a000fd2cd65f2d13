"""Reads from S3: mediavault on a SeaweedFS of its own, beside rclone and nginx in front of the same object."""

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
    """Upload `source` through mediavault, then ask everybody for that object: ranges, then the whole."""
    place = folder / "on-s3"
    place.mkdir()
    with ExitStack() as stack:
        seaweedfs = stack.enter_context(SeaweedFS())
        bucket = seaweedfs.create_bucket()
        settings = build_s3_settings(seaweedfs, seaweedfs.endpoint, bucket)
        service = stack.enter_context(contestants.mediavault(place, cores, settings))
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
        everybody = [
            contestants.Contestant(service.name, service.server, path, service.headers),
            stack.enter_context(contestants.rclone(place, store, cores)),
            stack.enter_context(contestants.nginx_proxying_s3(place, store, cores)),
        ]
        size, rounds = objects[key], options.rounds
        return [
            rows.measure_ranges("64 KiB ranges from S3", everybody, size, options.seconds, rounds, cores),
            rows.measure_whole_file("whole file from S3", everybody, size, 1, rounds, cores),
        ]
