"""Two serving processes on PostgreSQL, and one upload: the second goes on while the first is stopped in the middle of a request."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.consistency import assert_consistent
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.stacks import ENGINES, Stacks
from tests.real.sweeping import sweep_everything
from tests.uploads.sessions.session_place import DATES, make_photo

SIZE = 12_000_000
DURABLE, SENT = 3_000_000, 9_000_000
ANSWER_SECONDS = 30.0
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(params=ENGINES, ids=["on a disk", "in a bucket"])
def services(request: pytest.FixtureRequest, stacks: Stacks, tmp_path: Path) -> Iterator[tuple[Service, Service]]:
    stack = stacks.create(request.param, tmp_path / "service", database="postgresql")
    with Service(stack) as first, Service(stack) as second:
        yield first, second
        assert_consistent(stack)


def create(client: httpx.Client, length: int) -> str:
    metadata = {"filename": "holiday.jpg", **DATES}
    encoded = ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in metadata.items())
    answer = client.post(
        "/api/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(length), "Upload-Metadata": encoded}
    )
    assert answer.status_code == 201, answer.text
    return urlsplit(answer.headers["location"]).path


def append(client: httpx.Client, path: str, offset: int, data: bytes) -> httpx.Response:
    return client.patch(path, headers={**TUS, "Upload-Offset": str(offset)}, content=data)


def begin_append(service: Service, account: Account, path: str, offset: int, length: int) -> socket.socket:
    """A connection on which a request has begun; its body is to be sent."""
    address = urlsplit(service.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=ANSWER_SECONDS)
    fields = {
        **TUS,
        "Host": address.netloc,
        "x-api-key": account.key,
        "Upload-Offset": offset,
        "Content-Length": length,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    connection.sendall(f"PATCH {path} HTTP/1.1\r\n{head}\r\n".encode())
    return connection


def test_a_process_that_was_stopped_tears_nothing_when_it_wakes_up(services: tuple[Service, Service]) -> None:
    first, second = services
    account = first.people.add()
    data = make_photo(SIZE)
    with first.client(account) as client:
        path = create(client, SIZE)
        assert append(client, path, 0, data[:DURABLE]).status_code == 204
    with begin_append(first, account, path, DURABLE, SIZE - DURABLE) as stopped:
        stopped.sendall(data[DURABLE:SENT])
        first.process.suspend()
        try:
            with second.client(account) as client:
                answer = client.head(path, headers=TUS)
                offset = int(answer.headers["upload-offset"])
                assert (answer.status_code, offset >= DURABLE) == (200, True)
                assert append(client, path, offset, data[offset:-100]).headers["upload-offset"] == str(SIZE - 100)
        finally:
            first.process.resume()
        stopped.sendall(bytes(SIZE - SENT))  # other bytes than the newer request has sent
        status = int(stopped.recv(65536).split(b" ", 2)[1])
        assert status in (409, 423), "the stopped request is refused"
    with second.client(account) as client:
        answer = append(client, path, SIZE - 100, data[-100:])
        assert answer.status_code in (200, 204)
        asset = answer.headers["mediavault-asset-id"]
        assert client.get(f"/api/assets/{asset}/original").content == data
        assert client.head(path, headers=TUS).headers["mediavault-asset-id"] == asset
    sweep_everything(second)
    assert_consistent(second.stack, exact=True)
    assert second.stack.leftovers() == []
