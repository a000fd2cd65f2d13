"""Methods and heads by RFC 9110 and RFC 9112: every URL reports its methods in `Allow`, and invalid heads are refused."""

from __future__ import annotations

import http.client
import re

import httpx
import pytest

from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.service import Service
from tests.real.uploads import FORM_TAIL, FORM_TYPE, UploadConnection, form_head, fresh_bytes, uploaded

__all__ = ["stack"]

SOMETHING = "0d4c1d0e-0000-4000-8000-000000000000"
MEBIBYTE = 1024 * 1024
ALL = {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"}

REFUSED = {
    "no Host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "two Hosts, 1.0": (b"GET /livez HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "Host with a path": (b"GET /livez HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "Host with a user": (b"GET /livez HTTP/1.1\r\nHost: me@x\r\n\r\n", 400),
    "Host with a port that is none": (b"GET /livez HTTP/1.1\r\nHost: x:http\r\n\r\n", 400),
    "gzip": (b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "gzip, chunked": (b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked twice": (b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked, 1.0": (b"POST /livez HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "HTTP/2": (b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "HTTP/2 by its preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /livez\r\n\r\n", 400),
    "RTSP": (b"OPTIONS * RTSP/1.0\r\n\r\n", 400),
    "BREW": (b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 501),
    "get": (b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    "line feeds alone": (b"GET /livez HTTP/1.1\nHost: x\n\n", 400),
}
TAKEN = {
    "IPv6": b"GET /livez HTTP/1.1\r\nHost: [::1]:2283\r\n\r\n",
    "empty Host": b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n",
    "1.0 without Host": b"GET /livez HTTP/1.0\r\n\r\n",
    "absolute": b"GET http://photos.example.org/livez HTTP/1.1\r\nHost: photos.example.org\r\n\r\n",
    "blank lines": b"\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "Chunked": b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked \r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_head_against_the_rules_is_refused(service: Service, name: str) -> None:
    sent, status = REFUSED[name]
    with UploadConnection(service.port) as wire:
        wire.send(sent)
        answer = wire.answer()
        assert wire.receive(1) == b""

    assert answer.status == answer.json()["statusCode"] == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", TAKEN)
def test_a_head_within_the_rules_is_taken(service: Service, name: str) -> None:
    with UploadConnection(service.port) as wire:
        wire.send(TAKEN[name])
        assert wire.answer().status == 200


def test_every_address_tells_its_methods(client: httpx.Client) -> None:
    """Those that the description has, and perhaps those of a template that fits as well, such as `/assets/{id}`."""
    for template, operations in client.get("/openapi.json").json()["paths"].items():
        path = re.sub(r"\{(\w*id|token|name)\}", SOMETHING, template.replace("{name}", "a.zip"), flags=re.IGNORECASE)
        asked = client.options(path)
        assert (asked.status_code, asked.content) == (204, b""), path
        told = set(asked.headers["allow"].split(", "))
        assert {method.upper() for method in operations} | {"OPTIONS"} <= told, path
        assert ("HEAD" in told) == ("GET" in told), path
        for method in ALL - told:
            refused = client.request(method, path)
            assert refused.status_code == refused.json()["statusCode"] == 405, (method, path)
            assert refused.headers["allow"] == asked.headers["allow"]


def test_the_server_tells_its_methods(service: Service) -> None:
    with UploadConnection(service.port) as wire:
        wire.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
        status, fields = wire.head()

    assert status == 204
    assert fields["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


def test_what_is_not_there_has_no_methods(client: httpx.Client) -> None:
    for method in ("OPTIONS", "GET", "POST"):
        answer = client.request(method, "/api/nothing")
        assert answer.status_code == 404
        assert "allow" not in answer.headers


def test_head_is_get_without_its_body(client: httpx.Client) -> None:
    uploaded(client, fresh_bytes(1000))
    for template, operations in client.get("/openapi.json").json()["paths"].items():
        if "get" not in operations or "{" in template:
            continue
        got, head = client.get(template), client.head(template)
        assert head.status_code == got.status_code, template
        assert head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]
        assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "hot"])
def test_a_client_that_sends_no_more_gets_its_answers(
    service: Service, account: Account, client: httpx.Client, *, warm: bool
) -> None:
    data = fresh_bytes(100_000)
    path = f"/api/assets/{uploaded(client, data)}/original"
    if warm:
        assert client.get(path).content == data
    with UploadConnection(service.port) as wire:
        for target in (path, "/api/users/me", path):
            wire.send_head("GET", target, account.headers)
        wire.end()
        assert wire.answer().body == data
        assert wire.answer().json()["email"] == account.email
        assert wire.answer().body == data
        assert wire.receive(1) == b""


def test_an_upload_of_a_client_that_sends_no_more_is_taken(service: Service, account: Account) -> None:
    data = fresh_bytes(100_000)
    with UploadConnection(service.port) as wire:
        wire.begin_upload(len(data), account.headers)
        wire.send(data + FORM_TAIL)
        wire.end()
        assert wire.answer().status == 201


def test_a_refusal_is_read_by_clients_that_send_all_before(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_UPLOAD_LIMIT": str(MEBIBYTE)})
    account = service.people.add()
    body = form_head() + bytes(48 * MEBIBYTE) + FORM_TAIL
    for length in (len(body), None):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        fields = {"content-type": FORM_TYPE, **account.headers}
        if length is not None:
            fields["content-length"] = str(length)
        pieces = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
        connection.request("POST", "/api/assets", body if length else pieces, fields, encode_chunked=length is None)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (413, "close")
        assert b"statusCode" in answer.read()
        connection.close()


def test_what_comes_behind_the_last_answer_takes_it_from_nobody(service: Service) -> None:
    with UploadConnection(service.port) as wire:
        wire.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        status, _ = wire.head()
        wire.send(bytes(MEBIBYTE))
        assert status == 200
        assert wire.receive(100) == b'{"status":"alive"}'
        assert wire.receive(1) == b""
