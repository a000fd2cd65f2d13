"""Uploads in chunks of all sizes, and what happens when clients break off, stall, or are two."""

from __future__ import annotations

import random
from pathlib import Path

import httpx
import pytest

from tests.api.start_service import StartService
from tests.api.uploads.chunks import (
    KIBIBYTE,
    MEBIBYTE,
    assert_stored,
    begin_append,
    choose_chunk_sizes,
    split,
)
from tests.api.uploads.upload_clients import (
    TUS,
    append_tus,
    begun_tus,
    create_tus,
    finish_tus,
    ietf_append_fields,
    ietf_creation_fields,
    metadata,
    tus_offset,
)
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.stacks import ENGINES, Engine
from tests.real.uploads import UploadConnection, fresh_bytes, some_bytes
from tests.real.waiting import eventually


@pytest.mark.parametrize("is_deferred", [False, True])
def test_chunks_of_all_sizes(client: httpx.Client, seed: int, *, is_deferred: bool, soak: bool) -> None:
    sizes = choose_chunk_sizes(soak=soak)
    data = some_bytes(sum(sizes), seed)
    location = begun_tus(client, None if is_deferred else len(data))
    chunks = list(split(data, sizes))
    for offset, chunk in chunks[:-1]:
        answer = append_tus(client, location, offset, chunk)
        assert (answer.status_code, int(answer.headers["upload-offset"])) == (204, offset + len(chunk))
    offset, chunk = chunks[-1]
    told = {"upload-length": str(len(data))} if is_deferred else {}
    last = append_tus(client, location, offset, chunk, told)
    assert last.status_code == 200, last.text
    assert_stored(client, last.json()["id"], data)


def test_a_length_that_is_told_last_may_not_be_zero(client: httpx.Client) -> None:
    location = begun_tus(client, None)
    answer = append_tus(client, location, 0, b"", {"upload-length": "0"})
    assert answer.status_code == 400
    assert "empty" in answer.json()["message"]
    assert client.head(location, headers=TUS).status_code == 410


def test_what_arrived_before_the_connection_broke_is_kept(
    service: Service, client: httpx.Client, account: Account, seed: int, *, soak: bool
) -> None:
    chance = random.Random(seed)
    data = fresh_bytes(MEBIBYTE)
    location = begun_tus(client, len(data))
    offset = 0
    for _ in range(20 if soak else 4):
        sent = chance.randrange(1, max(2, (len(data) - offset) // 2))
        with UploadConnection(service.port) as wire:
            begin_append(wire, account, location, offset, len(data) - offset)
            wire.send(data[offset : offset + sent])
            if chance.random() < 0.5:
                wire.end()  # all bytes arrive, and then the end
                assert wire.head()[0] == 400
                assert tus_offset(client, location) == offset + sent
            else:
                wire.vanish()
        before, offset = offset, tus_offset(client, location)
        assert before <= offset <= before + sent
    assert_stored(client, finish_tus(client, location, data), data)


def has_read_everything(service: Service) -> bool:
    """Whether no bytes of any connection with the service are in the kernel's queues."""
    port = f":{service.port:04X}"
    connections = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return all(
        queues == "00000000:00000000"
        for _, local, remote, state, queues in (fields[:5] for fields in connections)
        if state == "01" and port in (local[-5:], remote[-5:])
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_what_arrived_before_the_service_was_stopped_is_kept(start_service: StartService, engine: Engine) -> None:
    service = start_service(engine, settings={"MEDIAVAULT_DRAIN_SECONDS": "0.2"})
    account = service.people.add()
    data = fresh_bytes(300 * KIBIBYTE)
    with service.client(account) as client, UploadConnection(service.port) as wire:
        location = begun_tus(client, len(data))
        begin_append(wire, account, location, 0, len(data))
        wire.send(data[: 100 * KIBIBYTE])
        eventually(lambda: has_read_everything(service), "the service has read all bytes")
        assert service.stop() == 0
        status, headers = wire.head()
        assert status == 503
        assert "upload-offset" not in headers
    service.start()
    with service.client(account) as client:
        assert tus_offset(client, location) == 100 * KIBIBYTE
        assert_stored(client, finish_tus(client, location, data), data)


def test_two_clients_on_one_upload(service: Service, client: httpx.Client, account: Account) -> None:
    """The newcomer gets the offset and goes on; the older request, whose client stalls, ends without an acknowledgement."""
    data = fresh_bytes(300 * KIBIBYTE)
    location = begun_tus(client, len(data))
    with UploadConnection(service.port) as older:
        begin_append(older, account, location, 0, len(data))
        older.send(data[: 100 * KIBIBYTE])

        offset = tus_offset(client, location)
        last = append_tus(client, location, offset, data[offset:])

        assert 0 <= offset <= 100 * KIBIBYTE
        assert last.status_code == 200
        status, headers = older.head()
        assert status == 423
        assert "upload-offset" not in headers
    assert_stored(client, last.json()["id"], data)


def test_the_offset_of_an_upload_that_goes_on_elsewhere_is_stale(
    service: Service, client: httpx.Client, account: Account
) -> None:
    data = fresh_bytes(1000)
    location = begun_tus(client, len(data))
    first = append_tus(client, location, 0, data[:300])
    stale = append_tus(client, location, 0, data[:300])
    last = append_tus(client, location, 300, data[300:])
    assert (first.status_code, stale.status_code, last.status_code) == (204, 409, 200)
    assert_stored(client, last.json()["id"], data)


def test_a_client_that_sends_a_byte_a_minute_is_given_up(start_service: StartService) -> None:
    """The limit is half a second here. What has arrived is kept."""
    service = start_service("local", settings={"MEDIAVAULT_UPLOAD_IDLE_SECONDS": "0.5"})
    account = service.people.add()
    data = fresh_bytes(300 * KIBIBYTE)
    with service.client(account) as client:
        location = begun_tus(client, len(data))
        for sent in (1, 100 * KIBIBYTE):
            before = tus_offset(client, location)
            with UploadConnection(service.port) as wire:
                begin_append(wire, account, location, before, len(data) - before)
                wire.send(data[before : before + sent])
                assert wire.head()[0] == 408
            assert tus_offset(client, location) == before + sent
        assert_stored(client, finish_tus(client, location, data), data)

        data = fresh_bytes(1000)
        begun = client.post("/api/upload", headers=ietf_creation_fields(data, is_complete=False))
        location = begun.headers["location"]
        with UploadConnection(service.port) as wire:
            fields = ietf_append_fields(0, is_complete=True)
            begin_append(wire, account, location, 0, len(data), fields)
            wire.send(data[:1])
            status, headers = wire.head()
            assert (status, headers["upload-offset"]) == (104, "1")
            assert wire.head()[0] == 408
        assert client.head(location).headers["upload-offset"] == "1"
        last = client.patch(location, content=data[1:], headers=ietf_append_fields(1, is_complete=True))
        assert_stored(client, last.json()["id"], data)


def test_a_creation_whose_first_bytes_are_refused_leaves_nothing(client: httpx.Client) -> None:
    """The client does not know the location: nobody could continue."""
    headers = {"upload-checksum": "sha1 " + "A" * 27 + "="}
    answer = create_tus(client, 1000, data=b"x" * 500, headers=headers)
    assert answer.status_code == 460
    assert "location" not in answer.headers


def test_bytes_beyond_the_length_are_refused(client: httpx.Client) -> None:
    location = begun_tus(client, 1000)
    append_tus(client, location, 0, b"x" * 600)
    answer = append_tus(client, location, 600, b"x" * 401)
    assert answer.status_code == 400
    assert tus_offset(client, location) == 600


def test_fields_are_those_of_a_plain_upload(client: httpx.Client) -> None:
    data = fresh_bytes(100)
    told = metadata(fields={"isFavorite": "true", "visibility": "archive", "fileCreatedAt": "2020-02-03T04:05:06Z"})
    answer = create_tus(client, len(data), data=data, headers={"upload-metadata": told})
    asset = client.get(f"/api/assets/{answer.json()['id']}").json()
    assert (asset["isFavorite"], asset["visibility"]) == (True, "archive")
    assert asset["fileCreatedAt"].startswith("2020-02-03T04:05:06")
