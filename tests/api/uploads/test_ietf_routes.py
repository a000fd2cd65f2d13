"""The IETF draft over HTTP, in each version: an upload's life, interim responses, the status of each refusal."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.uploads.chunks import assert_stored
from tests.api.uploads.upload_clients import (
    PARTIAL_UPLOAD,
    asset_data,
    begun_ietf,
    completeness,
    encode,
    ietf_append_fields,
    ietf_creation_fields,
    sha1_digest,
)
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import UploadConnection, fresh_bytes, upload
from tests.real.waiting import eventually

VERSIONS = [3, 5, 6, 7, 8]
PROBLEM_TYPES = "https://iana.org/assignments/http-problem-types#"


def is_complete(answer: httpx.Response, version: int | None) -> bool:
    if version == 3:
        return answer.headers["upload-incomplete"] == "?0"
    return answer.headers["upload-complete"] == "?1"


@pytest.mark.parametrize("version", [*VERSIONS, None])
def test_an_upload_in_three_requests(client: httpx.Client, version: int | None) -> None:
    data = fresh_bytes(3000)
    location = begun_ietf(client, data, first=data[:1000], version=version)

    status = client.head(location, headers=completeness(version, is_complete=False))
    second = client.patch(
        location, content=data[1000:2000], headers=ietf_append_fields(1000, version=version, is_complete=False)
    )
    last = client.patch(
        location, content=data[2000:], headers=ietf_append_fields(2000, version=version, is_complete=True)
    )

    assert (status.status_code, status.headers["upload-offset"]) == (204, "1000")
    assert not is_complete(status, version)
    assert status.headers["cache-control"] == "no-store"
    age = {6: "expires=", 7: "max-age=", 8: "max-age=", None: "max-age="}.get(version)
    assert (age is not None) is ("upload-limit" in status.headers)
    assert age is None or age in status.headers["upload-limit"]
    assert (second.status_code, second.headers["upload-offset"]) == (204, "2000")
    assert not is_complete(second, version)
    assert last.status_code == 201
    assert is_complete(last, version)
    assert last.json()["status"] == "created"
    assert_stored(client, last.json()["id"], data)
    ended = client.head(location, headers=completeness(version, is_complete=False))
    assert ended.headers["upload-length"] == "3000"
    assert is_complete(ended, version)


def test_a_lost_last_answer_can_be_asked_for_again(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    location = begun_ietf(client, data, first=data[:400])
    first = client.patch(location, content=data[400:], headers=ietf_append_fields(400, is_complete=True))
    again = client.patch(location, content=b"", headers=ietf_append_fields(1000, is_complete=True))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()


def test_a_whole_file_in_one_request(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    answer = client.post("/api/upload", content=data, headers=ietf_creation_fields(data, is_complete=True))
    assert (answer.status_code, answer.headers["upload-complete"]) == (201, "?1")
    assert_stored(client, answer.json()["id"], data)


def test_a_known_content_is_answered_before_the_body(service: Service, account: Account, client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    asset_id = upload(client, data).json()["id"]
    with UploadConnection(service.port) as wire:
        fields = ietf_creation_fields(data, is_complete=True) | {"x-api-key": account.key, "content-length": "1000"}
        wire.send_head("POST", "/api/upload", fields)
        answer = wire.answer()
    assert (answer.status, answer.headers["upload-complete"]) == (200, "?1")
    assert answer.json() == {"id": asset_id, "status": "duplicate"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_location_is_told_before_the_body(
    service: Service, account: Account, client: httpx.Client, version: int
) -> None:
    """The interim response lets a client that loses its connection in the first request continue."""
    data = fresh_bytes(1000)
    with UploadConnection(service.port) as wire:
        fields = ietf_creation_fields(data, version=version, is_complete=True)
        wire.send_head("POST", "/api/upload", {**fields, "x-api-key": account.key, "content-length": "1000"})
        status, headers = wire.head()
        wire.send(data[:600])

    assert status == 104
    assert headers["upload-draft-interop-version"] == str(version)
    assert (version >= 6) is ("upload-limit" in headers)
    path = urlsplit(headers["location"]).path
    offset = int(client.head(path, headers=completeness(version, is_complete=False)).headers["upload-offset"])
    last = client.patch(
        path, content=data[offset:], headers=ietf_append_fields(offset, version=version, is_complete=True)
    )
    assert_stored(client, last.json()["id"], data)


@pytest.mark.parametrize("version", [None, 4, 9])
def test_no_interim_response_without_a_known_version(service: Service, account: Account, version: int | None) -> None:
    data = fresh_bytes(1000)
    with UploadConnection(service.port) as wire:
        fields = ietf_creation_fields(data, version=version, is_complete=True)
        wire.send_head("POST", "/api/upload", {**fields, "x-api-key": account.key, "content-length": "1000"})
        wire.send(data)
        assert wire.answer().status == 201


@pytest.mark.parametrize("told", [{}, {"upload-draft-interop-version": "8", "via": "1.1 proxy"}])
def test_a_creation_that_breaks_before_its_location_is_told_leaves_nothing(
    service: Service, told: dict[str, str]
) -> None:
    """Nobody could continue, and what it reserved of the quota would be missing."""
    data = fresh_bytes(1000)
    account = service.people.add(quota=1500)
    with UploadConnection(service.port) as wire:
        fields = ietf_creation_fields(data, version=None, is_complete=True) | told
        wire.send_head("POST", "/api/upload", {**fields, "x-api-key": account.key, "content-length": "1000"})
        wire.send(data[:600])
        wire.end()
        assert wire.answer().status == 400
    with service.client(account) as client:
        fields = ietf_creation_fields(data, is_complete=True)
        eventually(
            lambda: client.post("/api/upload", content=data, headers=fields).status_code == 201, "the quota is free"
        )


def test_no_interim_response_before_a_refusal(service: Service, account: Account) -> None:
    with UploadConnection(service.port) as wire:
        fields = ietf_creation_fields(b"x", is_complete=True, name="program.exe")
        wire.send_head("POST", "/api/upload", {**fields, "x-api-key": account.key, "content-length": "1"})
        assert wire.answer().status == 400


@pytest.mark.parametrize("algorithm", ["sha", "sha-256", "sha-512"])
def test_a_body_that_does_not_match_its_digest_is_not_appended(client: httpx.Client, algorithm: str) -> None:
    data = fresh_bytes(1000)
    name = {"sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}[algorithm]

    def digest(of: bytes) -> dict[str, str]:
        return {"content-digest": f"{algorithm}=:{base64.b64encode(hashlib.new(name, of).digest()).decode()}:"}

    location = begun_ietf(client, data)
    wrong = client.patch(location, content=data, headers=ietf_append_fields(0, is_complete=True) | digest(b"other"))
    assert wrong.status_code == 400
    assert wrong.json()["type"] == f"{PROBLEM_TYPES}digest-mismatching-values"

    last = client.patch(location, content=data, headers=ietf_append_fields(0, is_complete=True) | digest(data))
    assert_stored(client, last.json()["id"], data)


def test_a_file_that_does_not_match_its_digest_becomes_no_asset(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    fields = ietf_creation_fields(data, is_complete=True) | {"repr-digest": sha1_digest(b"other")}
    answer = client.post("/api/upload", content=data, headers=fields)
    assert answer.status_code == 400
    assert client.get("/api/assets/statistics").json()["total"] == 0


def test_a_wrong_offset_tells_the_right_one(client: httpx.Client) -> None:
    location = begun_ietf(client, b"x" * 1000, first=b"x" * 400)
    answer = client.patch(location, content=b"y", headers=ietf_append_fields(300, is_complete=False))
    assert (answer.status_code, answer.headers["upload-offset"]) == (409, "400")
    problem = answer.json()
    assert problem["type"] == f"{PROBLEM_TYPES}mismatching-upload-offset"
    assert (problem["expected-offset"], problem["provided-offset"]) == (400, 300)


def test_two_lengths_that_disagree(client: httpx.Client) -> None:
    location = begun_ietf(client, b"x" * 1000, first=b"x" * 400, length=1000)
    fields = ietf_append_fields(400, is_complete=False) | {"upload-length": "2000"}
    told = client.patch(location, content=b"y", headers=fields)
    early = client.patch(location, content=b"y", headers=ietf_append_fields(400, is_complete=True))
    for answer in (told, early):
        assert answer.status_code == 400
        assert answer.json()["type"] == f"{PROBLEM_TYPES}inconsistent-upload-length"


def test_a_cancelled_upload_is_gone(client: httpx.Client) -> None:
    location = begun_ietf(client, b"x" * 1000, first=b"x" * 400)
    assert client.delete(location).status_code == 204
    assert client.head(location).status_code == 410
    assert client.patch(location, content=b"x", headers=ietf_append_fields(400, is_complete=False)).status_code == 410


def test_an_upload_of_another_user_is_not_there(client: httpx.Client, other_client: httpx.Client) -> None:
    location = begun_ietf(client, b"x" * 1000)
    assert other_client.head(location).status_code == 404
    assert (
        other_client.patch(location, content=b"x", headers=ietf_append_fields(0, is_complete=False)).status_code == 404
    )
    assert other_client.delete(location).status_code == 404


def test_an_upload_over_the_limit(client: httpx.Client) -> None:
    fields = ietf_creation_fields(b"x", is_complete=False) | {"upload-length": str(10 * 2**40)}
    answer = client.post("/api/upload", headers=fields)
    assert answer.status_code == 413
    assert answer.headers["upload-limit"].startswith("max-size=")


REFUSED_CREATIONS: list[tuple[dict[str, Any], int]] = [
    ({"upload-complete": None}, 400),
    ({"upload-complete": "true"}, 400),
    ({"x-immich-asset-data": None}, 400),
    ({"x-immich-asset-data": "???"}, 400),
    ({"x-immich-asset-data": encode("[]")}, 400),
    ({"x-immich-asset-data": encode("{") * 2}, 400),
    ({"x-immich-asset-data": asset_data(description="x" * 40_000)}, 431),
    ({"x-immich-asset-data": "A" * 70_000}, 431),
    ({"x-immich-asset-data": asset_data("../../etc/passwd")}, 400),
    ({"x-immich-asset-data": asset_data(fileCreatedAt="yesterday")}, 400),
    ({"repr-digest": None}, 400),
    ({"repr-digest": "sha=abc"}, 400),
    ({"upload-length": "-1"}, 400),
    ({"upload-length": "\u0661".encode()}, 400),
    ({"upload-length": str(2**63)}, 400),
    ({"content-digest": "sha-256=:AAAA:"}, 400),
    ({"x-api-key": "wrong"}, 401),
]


def test_creations_that_are_refused(client: httpx.Client) -> None:
    for headers, status in REFUSED_CREATIONS:
        fields = ietf_creation_fields(b"12345", is_complete=True) | headers
        sent = {name: value for name, value in fields.items() if value is not None}
        answer = client.post("/api/upload", content=b"12345", headers=sent)
        assert answer.status_code == status, headers
        assert answer.json()["message"]


REPEATED_FIELDS = ["x-immich-asset-data", "upload-complete", "upload-length"]


@pytest.mark.parametrize("name", REPEATED_FIELDS)
def test_a_repeated_field_is_refused(client: httpx.Client, name: str) -> None:
    fields = ietf_creation_fields(b"12345", is_complete=True) | {"upload-length": "5"}
    answer = client.post("/api/upload", content=b"12345", headers=[*fields.items(), (name, fields[name])])
    assert answer.status_code == 400
    assert "location" not in answer.headers


def test_tricks_in_a_name_stay_a_name(client: httpx.Client) -> None:
    data = fresh_bytes(100)
    fields = ietf_creation_fields(data, is_complete=True, name="../..\\x/ä\u202e.jpg")
    answer = client.post("/api/upload", content=data, headers=fields)
    assert client.get(f"/api/assets/{answer.json()['id']}").json()["originalFileName"] == "ä\u202e.jpg"


REFUSED_APPENDS: list[tuple[dict[str, Any], int]] = [
    ({"content-type": "application/octet-stream"}, 415),
    ({"upload-offset": None}, 400),
    ({"upload-offset": "-1"}, 400),
    ({"upload-offset": "\u0661".encode()}, 400),
    ({"upload-offset": str(2**63)}, 400),
    ({"upload-complete": None}, 400),
]


def test_appends_that_are_refused(client: httpx.Client) -> None:
    location = begun_ietf(client, b"x" * 1000)
    for headers, status in REFUSED_APPENDS:
        fields = ietf_append_fields(0, is_complete=False) | headers
        sent = {name: value for name, value in fields.items() if value is not None}
        assert client.patch(location, content=b"x", headers=sent).status_code == status, headers
        assert client.head(location).headers["upload-offset"] == "0"


def test_an_older_client_needs_no_type_of_its_own(client: httpx.Client) -> None:
    data = fresh_bytes(500)
    location = begun_ietf(client, data, version=5)
    fields = ietf_append_fields(0, version=5, is_complete=True) | {"content-type": "image/jpeg"}
    assert_stored(client, client.patch(location, content=data, headers=fields).json()["id"], data)


def test_options_tell_the_limits(anonymous: httpx.Client) -> None:
    answer = anonymous.options("/api/upload")
    assert (answer.status_code, answer.headers["accept-patch"]) == (204, PARTIAL_UPLOAD)
    assert answer.headers["upload-limit"].startswith("max-size=")
