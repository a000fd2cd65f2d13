"""The store carries out a write after the service that sent it was killed. The sweeper keeps the row for as long as
that may take, and `verify` finds objects that appear later."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.catalog.files import LATE_WRITE_GRACE
from app.jobs.sweeper import SweepReport, sweep
from app.uploads.ingest import UPLOAD_LEASE
from tests.api.consistency import assert_consistent
from tests.real.proxy import Fault, Hold, Proxy, Recorded
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import Service
from tests.real.stacks import Database, Stacks
from tests.real.uploads import fresh_bytes, upload
from tests.real.waiting import eventually

WAIT_SECONDS = 30.0
BYTES = 20_000


@dataclass(frozen=True, slots=True)
class KilledService:
    """A service that was killed after the store received its put and before the store carried it out."""

    service: Service
    put: Hold

    def carry_out(self) -> None:
        self.put.released.set()
        eventually(lambda: len(self.uploads()) == 1, "the object is there", within=WAIT_SECONDS)

    def uploads(self) -> list[str]:
        return [path for path in self.service.stack.objects() if path.endswith(".jpg")]

    def sweep(self, after: timedelta) -> SweepReport:
        """Sweep as if so much time had passed."""
        moment = datetime.now(UTC) + after
        return self.service.people.call_with_storage(lambda catalog, storage: sweep(catalog, storage, now=moment))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    return request.param


@pytest.fixture
def killed(seaweedfs: SeaweedFS, stacks: Stacks, tmp_path: Path, database: Database) -> Iterator[KilledService]:
    def is_original(request: Recorded) -> bool:
        return request.method == "PUT" and "/upload/" in request.path and request.path.endswith(".jpg")

    with Proxy(seaweedfs.port) as proxy:
        stack = stacks.create("s3", tmp_path / "service", database=database)
        service = Service(stack, settings={"S3_ENDPOINT": proxy.endpoint})
        service.start()
        put = Hold()
        proxy.faults.append(Fault(is_original, times=1, hold=put))
        with service.client(service.people.add()) as client:
            sender = threading.Thread(target=_send_in_vain, args=(client,))
            sender.start()
            arrived = put.arrived.wait(WAIT_SECONDS)
            service.kill()
            sender.join(WAIT_SECONDS)
        assert arrived
        yield KilledService(service, put)
        service.people.close()


def _send_in_vain(client: httpx.Client) -> None:
    with suppress(httpx.TransportError):
        upload(client, fresh_bytes(BYTES))


def test_a_put_that_is_carried_out_after_the_lease_ran_out_leaves_nothing(killed: KilledService) -> None:
    killed.sweep(UPLOAD_LEASE)

    killed.carry_out()

    assert_consistent(killed.service.stack)
    assert killed.sweep(UPLOAD_LEASE + LATE_WRITE_GRACE) == SweepReport(objects=1)
    assert_consistent(killed.service.stack, exact=True)


def test_verify_finds_and_moves_away_what_a_put_leaves_after_every_grace(killed: KilledService) -> None:
    killed.sweep(UPLOAD_LEASE)
    assert killed.sweep(UPLOAD_LEASE + LATE_WRITE_GRACE) == SweepReport(objects=1)

    killed.carry_out()

    (late,) = killed.uploads()
    found = killed.service.run("verify", "--quarantine", "--format", "json")
    assert found.returncode == 3, found.stderr
    assert [(finding["problem"], finding["path"]) for finding in json.loads(found.stdout)["findings"]] == [
        ("orphan", late)
    ]
    assert late not in killed.service.stack.objects()


def test_a_campaign_can_wait_for_what_the_dead_have_sent(seaweedfs: SeaweedFS) -> None:
    """`sweep_everything` waits for it before it skips all graces."""
    bucket = seaweedfs.create_bucket()
    url = urlsplit(
        seaweedfs.administration.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "late"})
    )
    head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {BYTES}\r\n\r\n"
    seaweedfs.finish()

    with seaweedfs.paused():
        with socket.create_connection(("127.0.0.1", seaweedfs.port), WAIT_SECONDS) as sender:
            sender.sendall(head.encode() + bytes(BYTES))
        assert seaweedfs.has_abandoned_requests
    seaweedfs.finish()

    assert seaweedfs.objects(bucket) == {"late": BYTES}
