"""Clients that disconnect during a download, or stall: reads from the store stop, and other clients do not wait. (For a store that stops
see `test_store_faults.py`.)"""

from __future__ import annotations

import random
from contextlib import ExitStack

import httpx
import pytest

from app.storage.backend import MAX_CHUNK_BYTES
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.process_usage import read_bytes
from tests.real.proxy import Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import Service
from tests.real.uploads import UploadConnection, fresh_bytes, uploaded
from tests.real.waiting import eventually

MEBIBYTE = 1024 * 1024
SIZE = 48 * MEBIBYTE
SMALL_BUFFER = 32 * 1024
ANOTHER_SLACK = 256 * 1024
"""Allowance for other reads by the service in the meantime (sweeper, responses to the probe)."""


def test_a_client_that_vanishes_stops_the_reading_from_disk(start_service: StartService) -> None:
    service = start_service("local")
    account = service.people.add()
    with service.client(account) as client:
        asset = uploaded(client, fresh_bytes(SIZE))
        start = read_bytes(service.process)
        with UploadConnection(service.port, receive_buffer=SMALL_BUFFER) as wire:
            wire.send_head("GET", f"/api/assets/{asset}/original", account.headers)
            assert wire.head()[0] == 200
            wire.receive(1000)
            _until_still(service)
            before = read_bytes(service.process)
            wire.vanish()
        client.get(f"/api/assets/{asset}")

        assert client.get("/readyz").status_code == 200
        assert read_bytes(service.process) - before <= MAX_CHUNK_BYTES + ANOTHER_SLACK
        assert before - start < SIZE / 2, "the client's buffers must have been full long before the end"


def test_a_client_that_vanishes_stops_the_reading_from_s3(start_service: StartService, seaweedfs: SeaweedFS) -> None:
    with Proxy(seaweedfs.port) as proxy:
        service = start_service("s3", settings={"S3_ENDPOINT": proxy.endpoint})
        account = service.people.add()
        with service.client(account) as client:
            asset = uploaded(client, fresh_bytes(SIZE))
            client.get(f"/api/assets/{asset}/original", headers={"range": "bytes=0-0"})
            idle = proxy.open_connections
            proxy.rate = 4 * MEBIBYTE
            start = proxy.passed
            with UploadConnection(service.port) as wire:
                wire.send_head("GET", f"/api/assets/{asset}/original", account.headers)
                assert wire.head()[0] == 200
                wire.receive(1000)
                eventually(lambda: proxy.passed - start > 2 * MEBIBYTE, "the file flows")
                before = proxy.passed
                wire.vanish()

            eventually(lambda: proxy.open_connections < max(idle, 1) + 1, "the read's connection is given up")
            proxy.rate = None
            assert proxy.passed - before <= MAX_CHUNK_BYTES + ANOTHER_SLACK
            assert client.get(f"/api/assets/{asset}/original", headers={"range": "bytes=5-9"}).status_code == 206


@pytest.mark.parametrize("clients", [40])
def test_clients_that_vanish_by_the_dozen_leave_nothing_behind(
    service: Service, account: Account, client: httpx.Client, clients: int
) -> None:
    data = fresh_bytes(8 * MEBIBYTE)
    asset = uploaded(client, data)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    idle = service.process.num_fds()

    for _ in range(clients):
        with UploadConnection(service.port, receive_buffer=SMALL_BUFFER) as wire:
            wire.send_head("GET", f"/api/assets/{asset}/original", account.headers)
            wire.receive(dice.choice([1, 10_000, 100_000]))
            wire.vanish()

    assert client.get(f"/api/assets/{asset}/original").content == data
    eventually(lambda: service.process.num_fds() <= idle + 8, "files and connections are closed")


def test_stalled_clients_keep_nobody_waiting(service: Service, account: Account, client: httpx.Client) -> None:
    data = fresh_bytes(8 * MEBIBYTE)
    asset = uploaded(client, data)
    with ExitStack() as stalled:
        wires = [stalled.enter_context(UploadConnection(service.port, receive_buffer=SMALL_BUFFER)) for _ in range(30)]
        for wire in wires:
            wire.send_head("GET", f"/api/assets/{asset}/original", account.headers)
            assert wire.head()[0] == 200

        for _ in range(10):
            assert client.get(f"/api/assets/{asset}/original", headers={"range": "bytes=10-99"}).content == data[10:100]
        assert client.get("/readyz").status_code == 200
        received = b""
        while len(received) < len(data):
            received += wires[0].receive(MEBIBYTE)

    assert received == data


def _until_still(service: Service) -> None:
    """Wait until the service stops reading because the client's buffers are full."""
    last = -1

    def still() -> bool:
        nonlocal last
        now = read_bytes(service.process)
        same, last = now == last, now
        return same

    for _ in range(5):
        eventually(still, "the reading pauses")
