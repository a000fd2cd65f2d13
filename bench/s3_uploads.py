"""Measures the upload of a large file to S3, beside a multipart upload of the same file by the SDK alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import contestants, load
from bench.archives import build_s3_settings
from bench.contestants import SWEEP_SECONDS, remove_uploads
from bench.processes import ROOT, Cores
from bench.rows import GIBIBYTE, ResultRow, Sample, measure_rounds
from tests.real.seaweedfs import SeaweedFS

S3_UPLOAD = "upload to S3"
SDK = "SDK alone"


@dataclass(frozen=True, slots=True)
class _Uploader:
    """`upload` returns the seconds of CPU, and removes what it stored."""

    name: str
    upload: Callable[[], float]


def measure_s3_uploads(folder: Path, source: Path, rounds: int, cores: Cores) -> ResultRow:
    service_folder = folder / "uploads-to-s3"
    service_folder.mkdir()
    size = source.stat().st_size
    with SeaweedFS() as seaweedfs:
        bucket = seaweedfs.create_bucket()
        settings = build_s3_settings(seaweedfs, seaweedfs.endpoint, bucket)
        with contestants.mediavault(service_folder, cores, settings) as service:

            def upload_to_service() -> float:
                before = service.server.cpu_seconds()
                answer = load.upload(service.server.port, service.path, source, headers=service.headers, cores=cores)
                cpu = service.server.cpu_seconds() - before
                remove_uploads(service, [answer["id"]])
                deadline = time.monotonic() + SWEEP_SECONDS
                while max(seaweedfs.objects(bucket).values(), default=0) >= size:
                    if time.monotonic() > deadline:
                        raise SystemExit("mediavault does not remove the object of a deleted asset")
                    time.sleep(0.1)
                return cpu

            def upload_by_sdk() -> float:
                cpu = _run_sdk(seaweedfs, bucket, source, cores)
                seaweedfs.administration.delete_object(Bucket=bucket, Key=SDK)
                return cpu

            def once(uploader: _Uploader) -> Sample:
                return {"cpu_seconds_per_gib": uploader.upload() / (size / GIBIBYTE)}

            uploaders = [_Uploader(service.name, upload_to_service), _Uploader(SDK, upload_by_sdk)]
            return measure_rounds(ResultRow(S3_UPLOAD, "cpu_seconds_per_gib"), uploaders, rounds, once)


def _run_sdk(seaweedfs: SeaweedFS, bucket: str, source: Path, cores: Cores) -> float:
    """On the server's core, as the service."""
    keys = {"AWS_ACCESS_KEY_ID": seaweedfs.admin.access_key, "AWS_SECRET_ACCESS_KEY": seaweedfs.admin.secret_key}
    command = [sys.executable, "-m", "bench.peers.sdk_multipart", seaweedfs.endpoint, bucket, SDK, str(source)]
    finished = subprocess.run(
        ["taskset", "--cpu-list", ",".join(map(str, cores.server)), *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | keys,
        capture_output=True,
        text=True,
        timeout=load.TIMEOUT_SECONDS,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(f"the SDK's upload failed: {finished.stderr}")
    return float(finished.stdout)
