"""Requests as a recording proxy sees them: encryption, checksum profiles, signatures, host names, credentials."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from app import __version__
from app.storage.errors import StorageError, StorageUnavailable
from app.storage.key import Key
from app.storage.s3 import S3Backend, open_s3
from app.storage.s3.protocol.capabilities import S3Feature
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.seaweedfs import SeaweedFS
from tests.storage.s3.conftest import OpenBackend, read, s3_settings, write

PART = 8 * 1024 * 1024
COPY_SOURCE = "x-amz-copy-source"


async def _write_in_all_ways(backend: S3Backend) -> None:
    """A put, a multipart upload and a copy; errors of the store are ignored."""
    for key, size in (("small", 10), ("large", PART + 1)):
        with suppress(StorageError):
            await write(backend, key, b"x" * size, content_type="image/png")
    with suppress(StorageError):
        await backend.copy_object(Key("source"), Key("copy"))


def _creating_requests(proxy: Proxy) -> dict[str, Recorded]:
    """The requests that create objects, by operation."""
    puts = [request for request in proxy.of("PUT") if "partNumber" not in request.query]
    return {
        "put": next(
            request for request in puts if COPY_SOURCE not in request.headers and request.path.endswith("/small")
        ),
        "multipart": proxy.of("POST", uploads="")[0],
        "copy": next(request for request in puts if COPY_SOURCE in request.headers),
    }


async def test_requests_name_the_program(open_backend: OpenBackend, proxy: Proxy) -> None:
    await write(await open_backend(endpoint=proxy.endpoint), "small", b"x")
    [agent] = {request.headers["user-agent"] for request in proxy.of("PUT")}
    assert agent.startswith(f"mediavault/{__version__} ")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"S3_SSE": "S3"}, {"x-amz-server-side-encryption": "AES256"}),
        ({"S3_SSE": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        ({"S3_SSE": "KMS"}, {"x-amz-server-side-encryption": "aws:kms"}),
        (
            {"S3_SSE": "aws:kms", "S3_SSE_KMS_KEY_ID": "key-1"},
            {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "key-1"},
        ),
        ({}, {}),
    ],
)
async def test_encryption_is_asked_for_on_put_copy_and_multipart_creation(
    open_backend: OpenBackend, proxy: Proxy, settings: dict[str, Any], expected: dict[str, str]
) -> None:
    await write(await open_backend(), "source", b"x")
    # This store has no KMS, so nothing is written.
    creating = Fault(lambda request: request.method in ("PUT", "POST"), status=400, code="InvalidRequest")
    proxy.faults.append(creating)
    await _write_in_all_ways(await open_backend(endpoint=proxy.endpoint, **settings))
    for what, request in _creating_requests(proxy).items():
        sent = {name: value for name, value in request.headers.items() if "server-side-encryption" in name}
        assert sent == expected, what


async def test_the_compatible_profile_sends_one_crc32_and_signs_no_payload(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "source", b"s")
    await _write_in_all_ways(backend)
    data = b"x" * (PART + 1)
    parts = {request.query["partNumber"]: request for request in proxy.of("PUT", partNumber="")}
    bodies = {"small": (_creating_requests(proxy)["put"], b"x" * 10)} | {
        number: (parts[number], data[(int(number) - 1) * PART : int(number) * PART]) for number in ("1", "2")
    }
    for what, (request, body) in bodies.items():
        crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        assert request.headers["x-amz-checksum-crc32"] == crc, what
        assert request.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD", what
        assert request.headers["content-length"] == str(len(body)), what
        assert "content-encoding" not in request.headers, what
        assert "transfer-encoding" not in request.headers, what


async def test_the_aws_profile_leaves_checksums_to_the_sdk(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, MEDIAVAULT_S3_CHECKSUMS="aws")
    await write(backend, "source", b"s")
    await _write_in_all_ways(backend)
    for request in (_creating_requests(proxy)["put"], *proxy.of("PUT", partNumber="")):
        assert request.headers["x-amz-sdk-checksum-algorithm"] == "CRC32"
        assert request.headers["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"
    assert await read(backend, "large") == b"x" * (PART + 1)


async def test_the_profile_none_sends_no_checksum_field(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, MEDIAVAULT_S3_CHECKSUMS="none")
    await write(backend, "source", b"s")
    await _write_in_all_ways(backend)
    assert await backend.delete_objects([Key("small"), Key("source")]) == {}
    assert await read(backend, "large") == b"x" * (PART + 1)
    sent = {name for request in proxy.requests for name in (*request.headers, *request.query)}
    assert {name for name in sent if "checksum" in name.lower()} == set()
    assert all("content-md5" in request.headers for request in proxy.of("POST", delete=""))
    assert backend.client.capabilities.has(S3Feature.BATCH_DELETE)


async def test_every_request_is_signed_v4_and_none_waits_for_a_continue(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "source", b"s")
    await _write_in_all_ways(backend)
    await read(backend, "large")
    for request in proxy.requests:
        signed = request.headers.get("authorization", request.query.get("X-Amz-Algorithm", ""))
        assert signed.startswith("AWS4-HMAC-SHA256"), request
        assert "expect" not in request.headers, request


async def test_reads_reuse_their_link_and_decode_nothing(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a b/ü%2F+#?.jpg", b"0123456789")
    for _ in range(3):
        assert await read(backend, "a b/ü%2F+#?.jpg") == b"0123456789"
    gets = [request for request in proxy.of("GET") if "X-Amz-Signature" in request.query]
    assert len({request.target for request in gets}) == 1
    assert {request.headers["accept-encoding"] for request in gets} == {"identity"}


async def test_acceleration_goes_to_its_host_name(bucket: str) -> None:
    settings = s3_settings(
        None,
        None,
        bucket,
        "",
        S3_FORCE_PATH_STYLE=False,
        S3_USE_ACCELERATE=True,
        S3_REGION="eu-west-1",
        S3_ACCESS_KEY_ID="key",
        S3_SECRET_ACCESS_KEY="secret",
        MEDIAVAULT_S3_DEADLINE=2,
    )
    backend = await open_s3(settings)
    asked: list[str] = []

    def capture(request: Any, **_: object) -> None:
        asked.append(request.url)
        raise OSError("nothing leaves this machine")

    try:
        backend.client.sdk.meta.events.register("before-send.s3", capture)
        with pytest.raises(StorageUnavailable):
            await backend.put_object(Key("marker"), b"x")
        link = await backend.presigned_url(Key("a.jpg"), expires_in=timedelta(minutes=1))
    finally:
        await backend.aclose()
    assert asked
    assert {urlsplit(url).hostname for url in (*asked, link or "")} == {f"{bucket}.s3-accelerate.amazonaws.com"}


class _ContainerMetadata(BaseHTTPRequestHandler):
    """A container's metadata service, which returns a role's credentials."""

    credentials: dict[str, str] = {}  # noqa: RUF012 - set on a subclass per test
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Authorization", ""))
        body = json.dumps(self.credentials).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def roles(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_ContainerMetadata]]:
    credentials = {
        "AccessKeyId": seaweedfs.admin.access_key,
        "SecretAccessKey": seaweedfs.admin.secret_key,
        "Token": "",
        "Expiration": "2099-01-01T00:00:00Z",
    }
    handler = type("Roles", (_ContainerMetadata,), {"credentials": credentials, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_address[1]}/role")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "task-token")
    yield handler
    server.shutdown()
    server.server_close()
    thread.join(10)


async def test_a_containers_role_serves_reads_and_writes(
    seaweedfs: SeaweedFS, bucket: str, prefix: str, roles: type[_ContainerMetadata]
) -> None:
    backend = await open_s3(s3_settings(seaweedfs.endpoint, None, bucket, prefix))
    try:
        await backend.probe()
        await write(backend, "a.jpg", b"by the role")
        assert await read(backend, "a.jpg") == b"by the role"
    finally:
        await backend.aclose()
    assert set(roles.asked) == {"task-token"}


async def test_a_roles_session_token_goes_along(
    bucket: str, prefix: str, proxy: Proxy, roles: type[_ContainerMetadata]
) -> None:
    roles.credentials["Token"] = "session-token"
    backend = await open_s3(s3_settings(proxy.endpoint, None, bucket, prefix))
    try:
        with suppress(StorageError):  # this store does not know the session
            await backend.put_object(Key("marker"), b"x")
        with suppress(StorageError):
            await read(backend, "marker")
    finally:
        await backend.aclose()
    read_requests = [request for request in proxy.of("GET") if "X-Amz-Signature" in request.query]
    assert proxy.requests
    assert read_requests
    for request in proxy.requests:
        token = request.headers.get("x-amz-security-token") or request.query.get("X-Amz-Security-Token")
        assert token == "session-token"


class _InstanceMetadata(_ContainerMetadata):
    """An instance's metadata service, version 2: a token first, then the role's name, then its credentials."""

    def do_PUT(self) -> None:
        self._answer(b"a-token" if self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("x-aws-ec2-metadata-token", ""))
        roles = "/latest/meta-data/iam/security-credentials/"
        found = {roles: b"keeper", f"{roles}keeper": json.dumps({"Code": "Success", **self.credentials}).encode()}
        self._answer(found.get(self.path))

    def _answer(self, body: bytes | None) -> None:
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


async def test_an_instances_role_serves_reads_and_writes(
    seaweedfs: SeaweedFS, bucket: str, prefix: str, roles: type[_ContainerMetadata], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = type("Instance", (_InstanceMetadata,), {"credentials": roles.credentials, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), instance)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}/")
    backend = await open_s3(s3_settings(seaweedfs.endpoint, None, bucket, prefix))
    try:
        await write(backend, "a.jpg", b"by the instance's role")
        assert await read(backend, "a.jpg") == b"by the instance's role"
    finally:
        await backend.aclose()
        server.shutdown()
        server.server_close()
        thread.join(10)
    assert set(instance.asked) == {"a-token"}
