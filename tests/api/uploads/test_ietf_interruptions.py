"""Uploads by the IETF draft in chunks of all sizes, and what happens when clients break off, or are two. The version is drawn."""

from __future__ import annotations

import random

import httpx
import pytest

from tests.api.uploads.chunks import (
    KIBIBYTE,
    MEBIBYTE,
    assert_stored,
    begin_append,
    choose_chunk_sizes,
    split,
)
from tests.api.uploads.upload_clients import (
    append_ietf,
    begun_ietf,
    finish_ietf,
    ietf_append_fields,
    ietf_creation_fields,
    ietf_offset,
)
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import UploadConnection, fresh_bytes, some_bytes

VERSIONS = (3, 5, 6, 7, 8)


@pytest.fixture
def version(seed: int) -> int:
    return random.Random(seed).choice(VERSIONS)


@pytest.mark.parametrize("is_length_told", [False, True])
def test_chunks_of_all_sizes(
    client: httpx.Client, seed: int, version: int, *, is_length_told: bool, soak: bool
) -> None:
    sizes = choose_chunk_sizes(soak=soak)
    data = some_bytes(sum(sizes), seed)
    location = begun_ietf(client, data, version=version, length=len(data) if is_length_told else None)
    chunks = list(split(data, sizes))
    for offset, chunk in chunks[:-1]:
        answer = append_ietf(client, location, offset, chunk, version=version, is_complete=False)
        assert (answer.status_code, int(answer.headers["upload-offset"])) == (204, offset + len(chunk))
    last = append_ietf(client, location, *chunks[-1], version=version, is_complete=True)
    assert last.status_code == 201, last.text
    assert_stored(client, last.json()["id"], data)


def test_an_empty_file_is_refused(client: httpx.Client, version: int) -> None:
    fields = ietf_creation_fields(b"", version=version, is_complete=True)
    whole = client.post("/api/upload", content=b"", headers=fields)
    location = begun_ietf(client, b"x", version=version)
    told_last = append_ietf(client, location, 0, b"", version=version, is_complete=True)
    for answer in (whole, told_last):
        assert answer.status_code == 400
        assert "empty" in answer.json()["message"]
    assert client.head(location).status_code == 410


def test_what_arrived_before_the_connection_broke_is_kept(
    service: Service, client: httpx.Client, account: Account, seed: int, version: int, *, soak: bool
) -> None:
    chance = random.Random(seed)
    data = fresh_bytes(MEBIBYTE)
    location = begun_ietf(client, data, version=version)
    offset = 0
    for _ in range(20 if soak else 4):
        sent = chance.randrange(1, max(2, (len(data) - offset) // 2))
        with UploadConnection(service.port) as wire:
            fields = ietf_append_fields(offset, version=version, is_complete=True)
            begin_append(wire, account, location, offset, len(data) - offset, fields)
            wire.send(data[offset : offset + sent])
            wire.vanish()
        before, offset = offset, ietf_offset(client, location, version=version)
        assert before <= offset <= before + sent
    assert_stored(client, finish_ietf(client, location, data, version=version), data)


def test_two_clients_on_one_upload(service: Service, client: httpx.Client, account: Account, version: int) -> None:
    """The newcomer gets the offset and goes on; the older request, whose client stalls, ends without an acknowledgement."""
    data = fresh_bytes(300 * KIBIBYTE)
    location = begun_ietf(client, data, version=version)
    with UploadConnection(service.port) as older:
        begin_append(older, account, location, 0, len(data), ietf_append_fields(0, version=version, is_complete=True))
        older.send(data[: 100 * KIBIBYTE])

        offset = ietf_offset(client, location, version=version)
        last = append_ietf(client, location, offset, data[offset:], version=version, is_complete=True)

        assert 0 <= offset <= 100 * KIBIBYTE
        assert last.status_code == 201
        progress: list[int] = []
        answer = older.answer(on_interim=lambda told: progress.append(int(told["upload-offset"])))
        assert answer.status == 409
        assert "upload-offset" not in answer.headers
        assert all(told <= offset for told in progress)
    assert_stored(client, last.json()["id"], data)
