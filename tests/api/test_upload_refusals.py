"""Uploads refused before their body was read: the client can read the response although it continues to send, and gets
no `100 Continue`."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from app.api.http.protocol import LINGER_SECONDS
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.service import Service
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

__all__ = ["stack"]

MEBIBYTE = 1024 * 1024
NOTHING = hashlib.sha1(b"")
SIZE = 50 * MEBIBYTE
TOO_LARGE = 65 * 1024 * MEBIBYTE
CURL_SECONDS = 60
SLACK_SECONDS = 3.0


@pytest.fixture(params=["no key", "wrong key", "too large", "over the quota", "wrong type", "wrong checksum"])
def refusal(
    request: pytest.FixtureRequest, service: Service, account: Account
) -> tuple[int, Mapping[str, str], str, int]:
    """The expected status, the headers, the file's name and the announced size."""
    everyone = account.headers
    poor = service.people.add(quota=1000).headers if request.param == "over the quota" else {}
    return {
        "no key": (401, {}, "photo.jpg", SIZE),
        "wrong key": (401, {"x-api-key": "never-issued"}, "photo.jpg", SIZE),
        "too large": (413, everyone, "photo.jpg", TOO_LARGE),
        "over the quota": (400, poor, "photo.jpg", SIZE),
        "wrong type": (400, everyone, "program.exe", SIZE),
        "wrong checksum": (400, {**everyone, "x-immich-checksum": "nonsense"}, "photo.jpg", SIZE),
    }[request.param]


def test_a_client_that_keeps_sending_reads_the_refusal(
    service: Service, client: httpx.Client, refusal: tuple[int, Mapping[str, str], str, int]
) -> None:
    status, headers, name, size = refusal
    with UploadConnection(service.port) as wire:
        wire.begin_upload(size, headers, name)
        answer = _answer_while_sending(wire, _pieces())

    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.whole
    assert answer.json()["statusCode"] == status
    assert answer.json()["message"]
    assert_next_upload_works(client)


def test_curl_shows_the_refusal(
    service: Service, tmp_path: Path, refusal: tuple[int, Mapping[str, str], str, int]
) -> None:
    status, headers, name, size = refusal
    if size > SIZE:
        headers = {**headers, "content-length": str(size)}
    sent = tmp_path / name
    with sent.open("wb") as file:
        file.truncate(SIZE)

    shown = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}"),
            *(option for header in headers.items() for option in ("--header", f"{header[0]}: {header[1]}")),
            *("--form", "fileCreatedAt=2024-05-01T10:00:00Z", "--form", "fileModifiedAt=2024-05-01T10:00:00Z"),
            *("--form", f"assetData=@{sent}", f"{service.url}/api/assets"),
        ],
        capture_output=True,
        text=True,
        timeout=CURL_SECONDS,
        check=False,
    )

    body, _, code = shown.stdout.rpartition("\n")
    assert code == str(status), shown
    assert f'"statusCode": {status}' in body


@pytest.mark.parametrize("reason", ["no key", "too large"])
def test_nobody_is_invited_to_send_what_will_be_refused(service: Service, account: Account, reason: str) -> None:
    headers = {
        "no key": {"content-length": str(SIZE)},
        "too large": {"content-length": str(TOO_LARGE), **account.headers},
    }[reason]

    with UploadConnection(service.port) as wire:
        wire.send_head("POST", "/api/assets", {"content-type": FORM_TYPE, "expect": "100-continue", **headers})
        status, _ = wire.head()

    assert status == (401 if reason == "no key" else 413)


def test_who_may_send_is_invited_and_served(service: Service, account: Account) -> None:
    content = form_head() + fresh_bytes(3 * MEBIBYTE) + FORM_TAIL
    headers = {"content-type": FORM_TYPE, "content-length": str(len(content)), **account.headers}

    with UploadConnection(service.port) as wire:
        wire.send_head("POST", "/api/assets", {"expect": "100-continue", **headers})
        invited, _ = wire.head()
        wire.send(content)
        answer = wire.answer()

    assert invited == 100
    assert answer.status == 201


def test_what_is_known_by_its_checksum_needs_no_body(service: Service, account: Account, client: httpx.Client) -> None:
    data = fresh_bytes(100_000)
    asset = uploaded(client, data)

    with UploadConnection(service.port) as wire:
        wire.begin_upload(SIZE, {**account.headers, "x-immich-checksum": hashlib.sha1(data).hexdigest()})
        answer = wire.answer()

    assert answer.status == 200
    assert answer.json() == {"id": asset, "status": "duplicate"}
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("checksum", ["", NOTHING.hexdigest(), b64encode(NOTHING.digest()).decode()])
def test_transfers_that_failed_are_no_photos_and_no_duplicates(client: httpx.Client, checksum: str) -> None:
    answers = [
        upload(client, b"", name, headers={"x-immich-checksum": checksum}) for name in ("1.jpg", "2.mp4", "3.HEIC")
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["detail"]) == (400, "The file is empty")
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/api/assets/statistics").json()["total"] == 0


def test_the_checksum_of_nothing_is_refused_before_the_body(service: Service, account: Account) -> None:
    with UploadConnection(service.port) as wire:
        wire.begin_upload(SIZE, {**account.headers, "x-immich-checksum": NOTHING.hexdigest()})
        answer = wire.answer()

    assert (answer.status, answer.json()["detail"]) == (400, "The file is empty")


def test_an_empty_file_is_told_to_no_client_as_one_that_is_here(client: httpx.Client) -> None:
    """A client takes whatever is rejected for a duplicate: this one it is to send, and to hear then why it is refused."""
    asked = {"assets": [{"id": "failed.jpg", "checksum": NOTHING.hexdigest()}]}

    checked = client.post("/api/assets/bulk-upload-check", json=asked).json()

    assert checked == {"results": [{"id": "failed.jpg", "action": "accept"}]}


@pytest.mark.parametrize("goes_on", [False, True], ids=["silent", "sending"])
def test_a_refused_connection_is_closed_soon(service: Service, goes_on: bool) -> None:
    with UploadConnection(service.port) as wire:
        wire.begin_upload(SIZE, {})
        answer = wire.answer()
        began = time.monotonic()
        if goes_on:
            wire.send_while_accepted(_pieces())
        try:
            end = wire.receive(1)
        except ConnectionError:
            end = b""
        took = time.monotonic() - began

    assert answer.status == 401
    assert end == b""
    assert took < LINGER_SECONDS + SLACK_SECONDS


def test_a_client_that_pauses_before_its_body_gets_to_read_why_it_is_refused(service: Service) -> None:
    with UploadConnection(service.port) as wire:
        wire.begin_upload(4 * MEBIBYTE, {})
        time.sleep(3)  # slowness is the case itself
        wire.send(bytes(4 * MEBIBYTE))
        answer = wire.answer()

    assert (answer.status, answer.whole) == (401, True)


def _pieces() -> Iterator[bytes]:
    piece = bytes(MEBIBYTE)
    for _ in range(SIZE // MEBIBYTE):
        yield piece


def _answer_while_sending(wire: UploadConnection, pieces: Iterable[bytes]) -> UploadAnswer:
    sending = threading.Thread(target=wire.send_while_accepted, args=(pieces,), daemon=True)
    sending.start()
    try:
        return wire.answer()
    finally:
        wire.vanish()
        sending.join(CURL_SECONDS)
