"""Storage failures: a stopped S3 server, a full disk, a missing bucket, wrong keys, a stalled sender. Checks the status, that nothing is
left over, and that the next request works."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.api.consistency import assert_consistent, read_state
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.postgres import Postgres
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.seaweedfs import SeaweedFS
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.uploads import FORM_TAIL, UploadConnection, assert_next_upload_works, fresh_bytes, upload, uploaded
from tests.real.waiting import eventually

MEBIBYTE = 1024 * 1024
DEADLINE_SECONDS = 2.0
IMPATIENT = {"MEDIAVAULT_S3_DEADLINE": f"{DEADLINE_SECONDS:g}", "MEDIAVAULT_S3_MINIMUM_RATE": str(100 * MEBIBYTE)}
RETRIES_AND_SLACK_SECONDS = 10.0


@pytest.fixture(scope="module")
def impatient(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on S3 with a store timeout of two seconds."""
    with Service(stacks.create("s3", tmp_path_factory.mktemp("impatient")), settings=IMPATIENT) as service:
        yield service


@pytest.fixture
def somebody(impatient: Service) -> Account:
    return impatient.people.add()


@pytest.fixture
def impatient_client(impatient: Service, somebody: Account) -> Iterator[httpx.Client]:
    with impatient.client(somebody) as client:
        yield client


@pytest.fixture
def recovered(impatient: Service, impatient_client: httpx.Client) -> Iterator[None]:
    """Afterwards the next upload works, and a sweep leaves nothing that is not live."""
    yield
    assert_next_upload_works(impatient_client)
    _assert_swept_clean(impatient)


@pytest.mark.usefixtures("recovered")
@pytest.mark.parametrize("size", [100_000, 40 * MEBIBYTE], ids=["one put", "by parts"])
def test_a_store_that_stops_in_the_middle_of_an_upload(
    impatient: Service, seaweedfs: SeaweedFS, somebody: Account, impatient_client: httpx.Client, size: int
) -> None:
    data = fresh_bytes(size)
    half = size // 2
    with UploadConnection(impatient.port) as wire:
        wire.begin_upload(size, somebody.headers)
        wire.send(data[:half])
        with seaweedfs.paused():
            began = time.monotonic()
            wire.send_while_accepted([data[half:], FORM_TAIL])
            answer = wire.answer()
            took = time.monotonic() - began

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["statusCode"] == 503
    assert took < DEADLINE_SECONDS + RETRIES_AND_SLACK_SECONDS
    assert impatient_client.get("/api/assets/statistics").json()["total"] == 0


@pytest.mark.parametrize(
    ("size", "operation", "answer"),
    [
        (100_000, "put", (412, "PreconditionFailed")),
        (20 * MEBIBYTE, "part", (404, "NoSuchUpload")),
        (20 * MEBIBYTE, "complete", (404, "NoSuchUpload")),
    ],
    ids=["put refused", "upload gone at a part", "upload gone at the end"],
)
def test_an_upload_that_the_store_refuses_without_having_the_object_is_to_be_sent_again(
    start_service: StartService, seaweedfs: SeaweedFS, size: int, operation: str, answer: tuple[int, str]
) -> None:
    """A sweep or a lifecycle rule aborted the multipart upload, or the conflicting object is gone: no fault of the client."""

    def matches(request: Recorded) -> bool:
        if "/upload/" not in request.path:
            return False
        if operation == "complete":
            return request.method == "POST" and "uploadId" in request.query
        return request.method == "PUT" and ("partNumber" in request.query) is (operation == "part")

    with Proxy(seaweedfs.port) as proxy:
        service = start_service("s3", settings={"S3_ENDPOINT": proxy.endpoint})
        data = fresh_bytes(size)
        with service.client(service.people.add()) as client:
            proxy.faults.append(Fault(matches, status=answer[0], code=answer[1]))
            refused = upload(client, data)
            assert proxy.faults[0].seen
            proxy.faults.clear()
            assert (refused.status_code, refused.json()["statusCode"]) == (503, 503), refused.text
            assert int(refused.headers["retry-after"]) > 0
            assert client.get("/api/assets/statistics").json()["total"] == 0
            asset = uploaded(client, data)
            assert client.get(f"/api/assets/{asset}/original").content == data
        sweep_everything(service)
        assert_consistent(service.stack, exact=True)


@pytest.mark.usefixtures("recovered")
def test_a_store_that_does_not_answer_a_download(
    impatient: Service, seaweedfs: SeaweedFS, impatient_client: httpx.Client
) -> None:
    data = fresh_bytes(300_000)
    asset = uploaded(impatient_client, data)

    with seaweedfs.paused():
        began = time.monotonic()
        answer = impatient_client.get(f"/api/assets/{asset}/original")
        took = time.monotonic() - began

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert took < DEADLINE_SECONDS + RETRIES_AND_SLACK_SECONDS
    assert impatient_client.get(f"/api/assets/{asset}/original").content == data


@pytest.mark.usefixtures("recovered")
def test_a_store_that_stops_in_the_middle_of_a_download(
    impatient: Service, seaweedfs: SeaweedFS, somebody: Account, impatient_client: httpx.Client
) -> None:
    data = fresh_bytes(48 * MEBIBYTE)
    asset = uploaded(impatient_client, data)
    target = f"/api/assets/{asset}/original"

    with UploadConnection(impatient.port, receive_buffer=64 * 1024) as wire:
        wire.send_head("GET", target, somebody.headers)
        status, headers = wire.head()
        got = bytearray(wire.receive(64 * 1024))
        with seaweedfs.paused():
            while piece := _received(wire):
                got += piece

    assert status == 200
    assert int(headers["content-length"]) == len(data)
    assert 0 < len(got) < len(data), "the connection must end short"
    assert got == data[: len(got)], "what came must be the file's own bytes, never padding"
    assert impatient_client.get(target).content == data


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("bucket", "no such bucket: The specified bucket does not exist (S3_BUCKET does not exist there"),
        ("key", "(S3_SECRET_ACCESS_KEY does not belong to S3_ACCESS_KEY_ID"),
        ("server", "is S3_ENDPOINT right, and"),
    ],
)
def test_a_store_that_cannot_be_used_shows_in_readiness(
    seaweedfs: SeaweedFS, start_service: StartService, missing: str, told: str
) -> None:
    """Only administrators and the log get the reason, in the store's own words and with a hint."""
    wrong = {
        "bucket": {},
        "key": {"S3_SECRET_ACCESS_KEY": record_secret("not-the-secret-of-this-key")},
        "server": {"S3_ENDPOINT": "http://127.0.0.1:9"},
    }[missing]
    service = start_service("s3", server=seaweedfs, settings={**IMPATIENT, **wrong}, begin=False)
    assert service.stack.bucket
    bucket = service.stack.bucket.name
    if missing == "bucket":
        seaweedfs.administration.delete_bucket(Bucket=bucket)
    service.start(ready=False)

    with service.client() as anyone:
        ready = anyone.get("/readyz")
        alive = anyone.get("/livez")
    with service.client(service.people.add()) as client:
        answer = upload(client, fresh_bytes(1000))
        seen_by_anyone = client.get("/readyz")
    with service.client(service.people.add(is_admin=True)) as client:
        seen_by_administrator = client.get("/readyz")

    assert told in seen_by_administrator.json()["checks"]["media location"]["reason"]
    assert told in service.log
    assert all("reason" not in seen.text for seen in (ready, seen_by_anyone))
    assert alive.status_code == 200
    assert ready.status_code == 503
    assert "media location" in ready.text
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    if missing == "bucket":
        seaweedfs.create_bucket(bucket)
    service.settings |= service.stack.settings
    service.restart()
    with service.client(service.people.add()) as client:
        assert_next_upload_works(client)
    _assert_swept_clean(service)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB for the media of the first service of `start_service`."""
    folder = tmp_path / "service-0" / "media"
    folder.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("a full disk needs a small tmpfs, and mounting one needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True, timeout=30)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def test_a_full_disk(small_disk: Path, start_service: StartService) -> None:
    service = start_service("local")
    with service.client(service.people.add()) as client:
        assert_next_upload_works(client)

        answer = upload(client, fresh_bytes(20 * MEBIBYTE))

        assert answer.status_code == 507, answer.text
        assert answer.json()["statusCode"] == 507
        eventually(lambda: not service.stack.leftovers(), "the unfinished file is deleted")
        assert_next_upload_works(client)
    _assert_swept_clean(service)
    assert sum(file.stat().st_size for file in small_disk.rglob("*.jpg")) < MEBIBYTE


@pytest.mark.parametrize(
    ("size", "sent"),
    [(20 * MEBIBYTE, 0), (20 * MEBIBYTE, 9 * MEBIBYTE), (1000, 0)],
    ids=["at once", "in the middle", "of a small file"],
)
def test_a_sender_that_stalls_is_given_up(stack: Engine, start_service: StartService, size: int, sent: int) -> None:
    service = start_service(stack, settings={"MEDIAVAULT_UPLOAD_IDLE_SECONDS": "1"})
    account = service.people.add()

    with UploadConnection(service.port) as wire:
        wire.begin_upload(size, account.headers)
        wire.send(bytes(sent))
        answer = wire.answer()

    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    with service.client(account) as client:
        assert_next_upload_works(client)
    _assert_swept_clean(service)


def test_what_is_deleted_while_the_store_is_away_goes_when_it_is_back(
    impatient: Service, seaweedfs: SeaweedFS, somebody: Account, impatient_client: httpx.Client
) -> None:
    asset = uploaded(impatient_client, fresh_bytes(5000))

    with seaweedfs.paused():
        removed = impatient_client.request("DELETE", "/api/assets", json={"ids": [asset], "force": True})

    assert removed.status_code == 204
    assert impatient_client.get(f"/api/assets/{asset}").status_code == 404
    _assert_swept_clean(impatient)
    assert not any(file.owner_id.replace("-", "") == somebody.id.hex for file in read_state(impatient.stack).files)


@pytest.mark.usefixtures("recovered")
def test_a_catalogue_that_drops_its_connections(
    impatient: Service, postgres: Postgres, impatient_client: httpx.Client
) -> None:
    data = fresh_bytes(5000)
    asset = uploaded(impatient_client, data)

    assert postgres.terminate_connections(impatient.stack.db_url) > 0

    assert impatient_client.get(f"/api/assets/{asset}").status_code == 200
    assert impatient_client.get(f"/api/assets/{asset}/original").content == data


def test_the_identity_of_these_tests_has_rights_on_its_prefix_only(impatient: Service) -> None:
    bucket = impatient.stack.bucket
    assert bucket
    client = bucket.server.client(bucket.identity)

    client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/.allowed", Body=b"1")
    client.delete_object(Bucket=bucket.name, Key=f"{bucket.prefix}/.allowed")
    for refused in (
        lambda: client.put_object(Bucket=bucket.name, Key="elsewhere", Body=b"1"),
        lambda: client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}-not/elsewhere", Body=b"1"),
        lambda: client.list_objects_v2(Bucket=bucket.name, Prefix=""),
        lambda: client.head_bucket(Bucket=bucket.name),
    ):
        with pytest.raises(ClientError, match=r"AccessDenied|403"):
            refused()


def _assert_swept_clean(service: Service) -> None:
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)
    assert service.stack.leftovers() == []


def _received(wire: UploadConnection) -> bytes:
    try:
        return wire.receive(MEBIBYTE)
    except ConnectionError:
        return b""
