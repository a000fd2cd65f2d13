"""Uploads by clients that disconnect, repeat requests or send hostile bodies, on both stacks. Checks the status, the consistency of
catalogue and storage (fixture `check_consistency`; exact after a sweep), and that the next upload works."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
import pytest

from tests.api.consistency import assert_consistent, read_state
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.sweeping import sweep_everything
from tests.real.uploads import (
    FORM_TAIL,
    FORM_TYPE,
    UploadAnswer,
    UploadConnection,
    assert_next_upload_works,
    form_head,
    fresh_bytes,
    upload,
    uploaded,
)
from tests.real.waiting import eventually

MEBIBYTE = 1024 * 1024


@pytest.fixture
def recovered(service: Service, client: httpx.Client) -> Iterator[None]:
    """Afterwards the next upload works, and a sweep leaves nothing that is not live."""
    yield
    assert_next_upload_works(client)
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)
    assert service.stack.leftovers() == []


def live_files(service: Service, account: Account) -> list[str]:
    owner = account.id.hex
    return [file.path for file in read_state(service.stack).files if file.owner_id.replace("-", "") == owner]


@pytest.mark.usefixtures("recovered")
@pytest.mark.parametrize("size", [50_000, 12 * MEBIBYTE], ids=["small", "large"])
def test_a_form_without_its_end_is_refused(client: httpx.Client, size: int) -> None:
    content = form_head() + fresh_bytes(size)

    answer = client.post("/api/assets", content=content, headers={"content-type": FORM_TYPE})

    assert answer.status_code == 400
    assert client.get("/api/assets/statistics").json()["total"] == 0


@pytest.mark.usefixtures("recovered")
@pytest.mark.parametrize(
    "sent", [0, 1000, 3 * MEBIBYTE, 20 * MEBIBYTE - 1], ids=["none", "little", "part", "almost all"]
)
def test_a_client_that_vanishes_leaves_nothing(
    service: Service, account: Account, client: httpx.Client, sent: int
) -> None:
    with UploadConnection(service.port) as wire:
        wire.begin_upload(20 * MEBIBYTE, account.headers)
        wire.send(fresh_bytes(sent))
        wire.vanish()

    eventually(lambda: not service.stack.leftovers(), "the unfinished object is dropped")
    assert client.get("/api/assets/statistics").json()["total"] == 0


@pytest.mark.usefixtures("recovered")
@pytest.mark.parametrize("clients", [2, 10])
def test_the_same_file_at_once_is_kept_once(service: Service, account: Account, clients: int) -> None:
    data = fresh_bytes(2 * MEBIBYTE)
    together = Barrier(clients)

    def send(_: int) -> httpx.Response:
        with service.client(account) as client:
            together.wait(30)
            return upload(client, data)

    with ThreadPoolExecutor(clients) as threads:
        answers = list(threads.map(send, range(clients)))

    assert sorted(answer.status_code for answer in answers) == [200] * (clients - 1) + [201]
    assert {answer.json()["status"] for answer in answers} == {"created", "duplicate"}
    assert len({answer.json()["id"] for answer in answers}) == 1
    sweep_everything(service)
    assert len(live_files(service, account)) == 1


@pytest.mark.usefixtures("recovered")
def test_two_users_may_keep_the_same_file(client: httpx.Client, other_client: httpx.Client) -> None:
    data = fresh_bytes(10_000)

    assert uploaded(client, data) != uploaded(other_client, data)


@pytest.mark.usefixtures("recovered")
@pytest.mark.parametrize("spelling", ["base64", "hex"])
def test_a_checksum_that_does_not_match_is_refused(
    service: Service, account: Account, client: httpx.Client, spelling: str
) -> None:
    data = fresh_bytes(9 * MEBIBYTE)
    digest = hashlib.sha1(data[:-1]).digest()
    checksum = base64.b64encode(digest).decode() if spelling == "base64" else digest.hex()

    answer = upload(client, data, headers={"x-immich-checksum": checksum})

    assert answer.status_code == 400
    sweep_everything(service)
    assert live_files(service, account) == []


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd.jpg",
        "..\\..\\windows\\system32\\photo.jpg",
        "/etc/cron.d/photo.jpg",
        "photo\0.jpg",
        "n" * 5000 + ".jpg",
        "\u202egpj.exe.jpg",
        "line\r\nset-cookie: broken=1.jpg",
        "….jpg",
        ". .jpg",
    ],
    ids=["up", "backslashes", "absolute", "NUL", "5,000 characters", "right to left", "line break", "dots", "blank"],
)
@pytest.mark.usefixtures("recovered")
def test_tricks_in_names_end_up_in_the_display_name_only(
    service: Service, account: Account, client: httpx.Client, name: str
) -> None:
    data = fresh_bytes(1000)

    answer = upload(client, data, fields={"filename": name})

    assert answer.status_code == 201, answer.text
    asset = client.get(f"/api/assets/{answer.json()['id']}").json()
    assert asset["originalFileName"].endswith(".jpg")
    assert not set(asset["originalFileName"]) & set("/\\\0\r\n")
    (path,) = live_files(service, account)
    below = path.removeprefix(str(service.stack.media)) if service.stack.bucket is None else path
    segments = below.split("/")[-5:]
    assert segments[:2] == ["upload", str(account.id)]
    assert len(segments[-1]) == len("00000000-0000-0000-0000-000000000000.jpg")
    original = client.get(f"/api/assets/{answer.json()['id']}/original?download=true")
    assert original.content == data
    assert "set-cookie" not in original.headers


@pytest.mark.usefixtures("recovered")
def test_a_quota_holds_against_uploads_at_once(service: Service) -> None:
    size = 300_000
    account = service.people.add(quota=2 * size)
    together = Barrier(4)

    def send(_: int) -> int:
        with service.client(account) as client:
            together.wait(30)
            return upload(client, fresh_bytes(size)).status_code

    with ThreadPoolExecutor(4) as threads:
        statuses = sorted(threads.map(send, range(4)))

    assert statuses == [201, 201, 400, 400]
    sweep_everything(service)
    assert len(live_files(service, account)) == 2


@pytest.mark.usefixtures("recovered")
def test_an_upload_and_the_removal_of_its_twin_at_once(
    service: Service, account: Account, client: httpx.Client
) -> None:
    data = fresh_bytes(200_000)
    first = uploaded(client, data)
    together = Barrier(2)

    def send() -> httpx.Response:
        with service.client(account) as sender:
            together.wait(30)
            return upload(sender, data)

    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(send)
        together.wait(30)
        removed = client.request("DELETE", "/api/assets", json={"ids": [first], "force": True})
        answer = sending.result(30)

    assert removed.status_code == 204
    assert answer.status_code in (200, 201)
    if answer.status_code == 201:
        assert client.get(f"/api/assets/{answer.json()['id']}/original").content == data


def test_the_end_of_a_form_may_come_in_pieces(service: Service, account: Account) -> None:
    data = fresh_bytes(5000)

    with UploadConnection(service.port) as wire:
        wire.begin_upload(len(data), account.headers)
        wire.send(data)
        for byte in FORM_TAIL:
            wire.send(bytes([byte]))
        answer = wire.answer()

    assert answer.status == 201


@pytest.mark.usefixtures("recovered")
def test_a_body_of_unknown_length(client: httpx.Client) -> None:
    data = fresh_bytes(9 * MEBIBYTE)
    whole = form_head() + data + FORM_TAIL
    pieces = (whole[at : at + 100_000] for at in range(0, len(whole), 100_000))

    answer = client.post("/api/assets", content=pieces, headers={"content-type": FORM_TYPE})

    assert answer.status_code == 201
    assert client.get(f"/api/assets/{answer.json()['id']}/original").content == data


@pytest.mark.usefixtures("recovered")
def test_a_body_in_chunks_of_every_size(service: Service, account: Account, client: httpx.Client) -> None:
    data = fresh_bytes(400_000)
    whole = form_head() + data + FORM_TAIL
    single = [whole[at : at + 1] for at in range(80_000)]  # thousands of them arrive in one go
    pieces = [*single, whole[80_000:300_000], whole[300_000:300_001], *[bytes([byte]) for byte in whole[300_001:]]]

    with UploadConnection(service.port) as wire:
        headers = {"content-type": FORM_TYPE, "transfer-encoding": "chunked", **account.headers}
        wire.send_head("POST", "/api/assets", headers)
        wire.send(b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n")
        answer = wire.answer()

    assert answer.status == 201
    assert client.get(f"/api/assets/{answer.json()['id']}/original").content == data


@pytest.mark.usefixtures("recovered")
def test_a_body_of_unknown_length_that_breaks_off(service: Service, account: Account, client: httpx.Client) -> None:
    with UploadConnection(service.port) as wire:
        headers = {"content-type": FORM_TYPE, "transfer-encoding": "chunked", **account.headers}
        wire.send_head("POST", "/api/assets", headers)
        for piece in (form_head(), fresh_bytes(MEBIBYTE)):
            wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        wire.vanish()

    eventually(lambda: not service.stack.leftovers(), "the unfinished object is dropped")
    assert client.get("/api/assets/statistics").json()["total"] == 0


@pytest.mark.usefixtures("recovered")
@pytest.mark.parametrize("sent", [0, 1000, 12 * MEBIBYTE], ids=["none", "little", "much"])
def test_a_client_that_ends_its_body_early_reads_why(
    service: Service, account: Account, client: httpx.Client, sent: int
) -> None:
    with UploadConnection(service.port) as wire:
        wire.begin_upload(20 * MEBIBYTE, account.headers)
        wire.send(fresh_bytes(sent))
        wire.end()
        answer = wire.answer()
        assert wire.receive(1) == b""

    assert_is_a_problem(answer, 400)
    assert client.get("/api/assets/statistics").json()["total"] == 0


@pytest.mark.usefixtures("recovered")
@pytest.mark.parametrize(
    "nonsense", [b"zz\r\n", b"fffffffffffffffff\r\n", b"5\r\nabcdefgh"], ids=["no size", "huge", "longer"]
)
def test_chunks_that_are_none_are_refused(
    service: Service, account: Account, client: httpx.Client, nonsense: bytes
) -> None:
    with UploadConnection(service.port) as wire:
        headers = {"content-type": FORM_TYPE, "transfer-encoding": "chunked", **account.headers}
        wire.send_head("POST", "/api/assets", headers)
        for piece in (form_head(), fresh_bytes(9 * MEBIBYTE)):
            wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        wire.send(nonsense)
        answer = wire.answer()

    assert_is_a_problem(answer, 400)
    assert client.get("/api/assets/statistics").json()["total"] == 0


def assert_is_a_problem(answer: UploadAnswer, status: int) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.json()["statusCode"] == status
