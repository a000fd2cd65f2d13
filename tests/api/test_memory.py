"""Memory of the service stays bounded for a large upload, a store slower than the sender, and stalled clients. Nothing is spooled to
disk: the folder for temporary files has room for one mebibyte."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.process_usage import PeakMemory
from tests.real.proxy import Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import Service
from tests.real.stacks import Engine
from tests.real.uploads import FORM_TAIL, UploadAnswer, UploadConnection, fresh_bytes, uploaded

MEBIBYTE = 1024 * 1024
ALLOWED_GROWTH = 64 * MEBIBYTE
WARM_UP_BYTES = 9 * MEBIBYTE
STALLED_CLIENTS = 64
STORE_BYTES_PER_SECOND = 10 * MEBIBYTE
SLOW_BYTES = 80 * MEBIBYTE
"""Larger than the memory that the service may use."""


@pytest.fixture
def tiny_temporary_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a temporary folder of 1 MiB needs a small tmpfs, and mounting one needs root")
    folder = tmp_path / "temporary"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True, timeout=30)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def test_a_large_upload_needs_neither_memory_nor_a_temporary_file(
    stack: Engine, start_service: StartService, tiny_temporary_folder: Path, soak: bool
) -> None:
    size = 2048 * MEBIBYTE if soak else 100 * MEBIBYTE
    service = start_service(stack, settings={"TMPDIR": str(tiny_temporary_folder)}, spawned=False)
    account = service.people.add()
    with service.client(account, timeout=120) as client:
        uploaded(client, fresh_bytes(WARM_UP_BYTES))

        with PeakMemory(service.process) as memory:
            answer, sha1 = _send(service, account, size)

        assert answer.status == 201
        assert memory.growth < ALLOWED_GROWTH, f"{memory.growth / MEBIBYTE:.0f} MiB more"
        assert list(tiny_temporary_folder.iterdir()) == []
        with (
            PeakMemory(service.process) as memory,
            client.stream("GET", f"/api/assets/{answer.json()['id']}/original") as original,
        ):
            received = hashlib.sha1()
            for chunk in original.iter_raw(MEBIBYTE):
                received.update(chunk)

        assert received.hexdigest() == sha1
        assert memory.growth < ALLOWED_GROWTH, f"{memory.growth / MEBIBYTE:.0f} MiB more"


def test_stalled_downloads_cost_no_memory(stack: Engine, start_service: StartService) -> None:
    service = start_service(stack, spawned=False)
    account = service.people.add()
    with service.client(account) as client:
        asset = uploaded(client, fresh_bytes(16 * MEBIBYTE))
        client.get(f"/api/assets/{asset}/original")
        with ExitStack() as stalled, PeakMemory(service.process) as memory:
            for _ in range(STALLED_CLIENTS):
                wire = stalled.enter_context(UploadConnection(service.port, receive_buffer=16 * 1024))
                wire.send_head("GET", f"/api/assets/{asset}/original", account.headers)
                assert wire.head()[0] == 200
            for _ in range(20):
                assert (
                    client.get(f"/api/assets/{asset}/original", headers={"range": "bytes=0-65535"}).status_code == 206
                )

    assert memory.growth < ALLOWED_GROWTH, f"{memory.growth / MEBIBYTE:.0f} MiB more"


def test_a_slow_store_slows_the_sender(start_service: StartService, seaweedfs: SeaweedFS) -> None:
    with Proxy(seaweedfs.port, rate=STORE_BYTES_PER_SECOND) as proxy:
        service = start_service("s3", settings={"S3_ENDPOINT": proxy.endpoint}, spawned=False)
        account = service.people.add()
        with service.client(account, timeout=120) as client:
            uploaded(client, fresh_bytes(WARM_UP_BYTES))

        began = time.monotonic()
        with PeakMemory(service.process) as memory:
            answer, _ = _send(service, account, SLOW_BYTES, patience=120)
        took = time.monotonic() - began

    assert answer.status == 201
    assert took > 0.8 * SLOW_BYTES / STORE_BYTES_PER_SECOND
    assert memory.growth < ALLOWED_GROWTH, f"{memory.growth / MEBIBYTE:.0f} MiB more"


def _send(service: Service, account: Account, size: int, *, patience: float = 60.0) -> tuple[UploadAnswer, str]:
    """Upload `size` bytes, generated piece by piece; returns the response and their SHA-1."""
    noise = fresh_bytes(MEBIBYTE)
    sha1 = hashlib.sha1()
    with UploadConnection(service.port, patience=patience) as wire:
        wire.begin_upload(size, account.headers, "film.mp4")
        for number in range(size // MEBIBYTE):
            piece = number.to_bytes(8, "big") + noise[8:]
            sha1.update(piece)
            wire.send(piece)
        wire.send(FORM_TAIL)
        return wire.answer(), sha1.hexdigest()
