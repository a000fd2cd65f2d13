"""tus over HTTP: an upload's life, the status of each refusal, and what is kept."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from uuid import uuid4

import httpx

from tests.api.uploads.chunks import assert_stored
from tests.api.uploads.upload_clients import (
    TUS,
    TUS_TYPE,
    append_tus,
    begun_tus,
    create_tus,
    encode,
    metadata,
    tus_offset,
)
from tests.real.uploads import fresh_bytes, upload


def test_an_upload_in_three_requests(client: httpx.Client) -> None:
    data = fresh_bytes(100_000)
    created = create_tus(client, len(data))
    location = created.headers["location"]
    assert created.status_code == 201
    assert created.headers["tus-resumable"] == "1.0.0"
    assert "upload-expires" in created.headers

    first = append_tus(client, location, 0, data[:70_000])
    status = client.head(location, headers=TUS)
    last = append_tus(client, location, 70_000, data[70_000:])

    assert (first.status_code, first.headers["upload-offset"], first.content) == (204, "70000", b"")
    assert (status.headers["upload-offset"], status.headers["upload-length"]) == ("70000", "100000")
    assert status.headers["upload-metadata"] == metadata()
    assert status.headers["cache-control"] == "no-store"
    assert (last.status_code, last.headers["upload-offset"]) == (200, "100000")
    asset_id = last.json()["id"]
    assert last.json() == {"id": asset_id, "status": "created"}
    assert last.headers["mediavault-asset-id"] == asset_id
    assert_stored(client, asset_id, data)


def test_a_lost_last_answer_can_be_asked_for_again(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    location = begun_tus(client, len(data))
    asset_id = append_tus(client, location, 0, data).headers["mediavault-asset-id"]

    status = client.head(location, headers=TUS)
    again = append_tus(client, location, len(data), b"")

    assert (status.headers["upload-offset"], status.headers["mediavault-asset-id"]) == ("1000", asset_id)
    assert (again.status_code, again.json()["id"]) == (200, asset_id)


def test_a_client_that_names_no_type_gets_204_for_the_last_bytes_too(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    location = begun_tus(client, len(data))
    last = append_tus(client, location, 0, data, {"accept": "text/html"})
    assert (last.status_code, last.content) == (204, b"")
    assert_stored(client, last.headers["mediavault-asset-id"], data)


def test_creation_with_all_bytes(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    answer = create_tus(client, len(data), data=data)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "1000")
    assert_stored(client, answer.json()["id"], data)


def test_creation_with_the_first_bytes(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    answer = create_tus(client, len(data), data=data[:300])
    assert (answer.status_code, answer.headers["upload-offset"], answer.content) == (201, "300", b"")
    last = append_tus(client, answer.headers["location"], 300, data[300:])
    assert_stored(client, last.json()["id"], data)


def test_a_length_that_is_told_last(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    location = begun_tus(client, None)
    append_tus(client, location, 0, data[:600])
    assert client.head(location, headers=TUS).headers["upload-defer-length"] == "1"
    unfinished = append_tus(client, location, 600, data[600:])
    assert unfinished.status_code == 204

    last = append_tus(client, location, 1000, b"", {"upload-length": "1000"})

    assert_stored(client, last.json()["id"], data)


def test_a_chunk_whose_checksum_is_wrong_is_not_appended(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    location = begun_tus(client, len(data))
    wrong = append_tus(client, location, 0, data[:500], {"upload-checksum": f"sha1 {encode('x' * 20)}"})
    assert wrong.status_code == 460
    assert wrong.json()["statusCode"] == 460
    assert tus_offset(client, location) == 0

    right = base64.b64encode(hashlib.sha1(data).digest()).decode()
    last = append_tus(client, location, 0, data, {"upload-checksum": f"sha1 {right}"})
    assert_stored(client, last.json()["id"], data)


def test_a_content_that_is_known_is_a_duplicate(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    asset_id = upload(client, data).json()["id"]
    answer = create_tus(client, len(data), data=data)
    assert answer.json() == {"id": asset_id, "status": "duplicate"}


def test_a_cancelled_upload_is_gone(client: httpx.Client) -> None:
    location = begun_tus(client, 1000)
    append_tus(client, location, 0, b"x" * 500)

    assert client.delete(location, headers=TUS).status_code == 204

    assert client.head(location, headers=TUS).status_code == 410
    assert append_tus(client, location, 500, b"x").status_code == 410
    assert client.delete(location, headers=TUS).status_code == 410


def test_a_wrong_offset_changes_nothing(client: httpx.Client) -> None:
    location = begun_tus(client, 1000)
    append_tus(client, location, 0, b"x" * 500)
    for offset in (0, 499, 501, 2**63 - 1):
        answer = append_tus(client, location, offset, b"y")
        assert (answer.status_code, answer.headers["upload-offset"]) == (409, "500")
    assert tus_offset(client, location) == 500


REFUSED_REQUESTS: list[tuple[str, dict[str, Any], int]] = [
    ("PATCH", {"upload-offset": "0"}, 415),
    ("PATCH", {"upload-offset": "0", "content-type": "application/partial-upload"}, 415),
    ("PATCH", {"content-type": TUS_TYPE}, 400),
    ("PATCH", {"content-type": TUS_TYPE, "upload-offset": "-1"}, 400),
    ("PATCH", {"content-type": TUS_TYPE, "upload-offset": "\u0661".encode()}, 400),
    ("PATCH", {"content-type": TUS_TYPE, "upload-offset": str(2**63)}, 400),
    ("PATCH", {"content-type": TUS_TYPE, "upload-offset": "0", "upload-length": "9"}, 400),
    ("PATCH", {"content-type": TUS_TYPE, "upload-offset": "0", "upload-checksum": "crc32 AAAA"}, 400),
    ("PATCH", {"content-type": TUS_TYPE, "upload-offset": "0", "upload-checksum": "sha1 AAAA"}, 400),
    ("PATCH", {"content-type": TUS_TYPE, "upload-offset": "0", "tus-resumable": "0.2.2"}, 412),
    ("HEAD", {"tus-resumable": "2.0.0"}, 412),
    ("DELETE", {"tus-resumable": "2.0.0"}, 412),
    ("POST", {}, 400),
    ("POST", {"x-http-method-override": "PUT"}, 400),
    ("PUT", {}, 405),
]


def test_requests_that_are_refused(client: httpx.Client) -> None:
    location = begun_tus(client, 1000)
    for method, headers, status in REFUSED_REQUESTS:
        answer = client.request(
            method, location, content=b"12345" if method == "PATCH" else None, headers={**TUS, **headers}
        )
        assert answer.status_code == status, (method, headers)
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert (status == 412) is (answer.headers.get("tus-version") == "1.0.0")
        assert tus_offset(client, location) == 0


def test_requests_that_match_no_route(client: httpx.Client) -> None:
    for method, path, status in [
        ("PUT", "/api/uploads", 405),
        ("GET", "/api/uploads", 405),
        ("DELETE", "/api/uploads", 405),
        ("GET", "/api/uploads/", 404),
        ("PATCH", "/api/uploads/a/b", 404),
    ]:
        answer = client.request(method, path, headers=TUS)
        assert (answer.status_code, answer.headers.get("tus-resumable")) == (status, "1.0.0"), (method, path)
        assert answer.json()["statusCode"] == status
        assert ("allow" in answer.headers) is (status == 405)
    for path in ("/api/upload", "/api/uploadsy"):
        assert "tus-resumable" not in client.put(path, headers=TUS).headers


REFUSED_CREATIONS: list[tuple[dict[str, Any], int]] = [
    ({}, 400),
    ({"upload-length": "-5"}, 400),
    ({"upload-length": "10", "upload-defer-length": "1"}, 400),
    ({"upload-length": str(10 * 2**40)}, 413),
    ({"upload-length": "10", "upload-metadata": "filename ???"}, 400),
    ({"upload-length": "10", "upload-metadata": "filename YQ==,filename YQ=="}, 400),
    ({"upload-length": "10", "upload-metadata": "k " + "A" * 50_000}, 431),
    ({"upload-length": "10", "upload-metadata": "k " + "A" * 70_000}, 431),
    ({"upload-length": "10", "upload-metadata": f"filename {encode('photo.jpg')}"}, 400),
    ({"upload-length": "10", "upload-metadata": metadata("program.exe")}, 400),
    ({"upload-length": "10", "upload-metadata": metadata("../../etc/passwd")}, 400),
    ({"upload-length": "0", "upload-metadata": metadata()}, 400),
    ({"upload-length": "10", "upload-metadata": metadata(), "tus-resumable": "0.2"}, 412),
]


def test_creations_that_are_refused(client: httpx.Client) -> None:
    for headers, status in REFUSED_CREATIONS:
        answer = client.post("/api/uploads", headers={**TUS, **headers})
        assert answer.status_code == status, headers
        assert "location" not in answer.headers
        assert answer.json()["message"]


def test_tricks_in_a_name_stay_a_name(client: httpx.Client) -> None:
    data = fresh_bytes(100)
    answer = create_tus(client, len(data), name="../..\\x/ä\u202e.jpg", data=data)
    assert client.get(f"/api/assets/{answer.json()['id']}").json()["originalFileName"] == "ä\u202e.jpg"


def test_an_upload_of_another_user_is_not_there(client: httpx.Client, other_client: httpx.Client) -> None:
    location = begun_tus(client, 1000)
    for other in (location, f"/api/uploads/{uuid4()}", "/api/uploads/x", f"/api/uploads/{uuid4().hex}"):
        answers = [
            other_client.head(other, headers=TUS),
            append_tus(other_client, other, 0, b"x"),
            other_client.delete(other, headers=TUS),
        ]
        assert [answer.status_code for answer in answers] == [404, 404, 404]
        assert all("upload-offset" not in answer.headers for answer in answers)
    assert tus_offset(client, location) == 0


def test_without_a_key(anonymous: httpx.Client) -> None:
    answer = create_tus(anonymous, 1000)
    assert (answer.status_code, answer.headers["tus-resumable"]) == (401, "1.0.0")


def test_options_tell_what_is_served(anonymous: httpx.Client) -> None:
    answer = anonymous.options("/api/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-checksum-algorithm"] == "sha1"
    assert int(answer.headers["tus-max-size"]) > 0
    extensions = "creation creation-with-upload creation-defer-length checksum expiration termination"
    assert answer.headers["tus-extension"].split(",") == extensions.split()


def test_overridden_methods(client: httpx.Client) -> None:
    data = fresh_bytes(1000)
    location = begun_tus(client, 1000)

    def post(method: str, **headers: str) -> httpx.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        content = data[:400] if method == "PATCH" else None
        return client.post(location, content=content, headers={**TUS, "x-http-method-override": method, **fields})

    assert post("PATCH", content_type=TUS_TYPE, upload_offset="0").headers["upload-offset"] == "400"
    assert post("HEAD").headers["upload-offset"] == "400"
    assert post("DELETE").status_code == 204
    assert post("HEAD").status_code == 410
    assert client.post("/api/uploads", headers={"x-http-method-override": "OPTIONS"}).headers["tus-version"] == "1.0.0"
