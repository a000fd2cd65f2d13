"""Uploads files: with an HTTP client, or piece by piece over a socket, which can also break off."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

BOUNDARY = "mediavault-tests-3d1f"
FIELDS = {"fileCreatedAt": "2024-05-01T10:00:00.000Z", "fileModifiedAt": "2024-05-01T10:00:00.000Z"}
WAIT_SECONDS = 30.0
RECEIVE_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024 * 1024


def some_bytes(size: int, seed: int) -> bytes:
    """Incompressible bytes, equal for equal seeds."""
    dice = random.Random(seed)
    # `randbytes` makes at most 256 MiB.
    return b"".join(dice.randbytes(min(PIECE_BYTES, size - start)) for start in range(0, size, PIECE_BYTES))


def fresh_bytes(size: int) -> bytes:
    """Random bytes that were never uploaded before."""
    return random.SystemRandom().randbytes(size)


def form_head(name: str = "photo.jpg", fields: Mapping[str, str] | None = None) -> bytes:
    """The form before the file's bytes: the fields, then the part's headers."""
    parts = [
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in {**FIELDS, **(fields or {})}.items()
    ]
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    part = (
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="assetData"; filename="{escaped}"\r\n'
        "content-type: application/octet-stream\r\n\r\n"
    )
    return "".join([*parts, part]).encode()


def sidecar_part(data: bytes) -> bytes:
    """The sidecar, after the file's bytes."""
    disposition = 'form-data; name="sidecarData"; filename="photo.xmp"'
    return f"\r\n--{BOUNDARY}\r\ncontent-disposition: {disposition}\r\n\r\n".encode() + data


FORM_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def upload(
    client: httpx.Client,
    data: bytes,
    name: str = "photo.jpg",
    *,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    sidecar: bytes | None = None,
) -> httpx.Response:
    """`POST /api/assets`."""
    beside = b"" if sidecar is None else sidecar_part(sidecar)
    return client.post(
        "/api/assets",
        content=form_head(name, fields) + data + beside + FORM_TAIL,
        headers={"content-type": FORM_TYPE, **(headers or {})},
    )


def uploaded(client: httpx.Client, data: bytes, name: str = "photo.jpg") -> str:
    """Upload and assert that the asset is new; returns its id."""
    answer = upload(client, data, name)
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "created"
    return answer.json()["id"]


def assert_next_upload_works(client: httpx.Client) -> None:
    """Assert that a new file can be uploaded and downloaded."""
    data = fresh_bytes(100_000)
    original = client.get(f"/api/assets/{uploaded(client, data)}/original")
    assert original.status_code == 200
    assert hashlib.sha1(original.content).digest() == hashlib.sha1(data).digest()


@dataclass(frozen=True, slots=True)
class UploadAnswer:
    """`whole` is False if the connection ended before the announced length."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    def json(self) -> Any:
        return json.loads(self.body)


class UploadConnection:
    """One plain connection. Every wait ends after `patience` seconds with `TimeoutError`."""

    def __init__(
        self,
        port: int,
        *,
        receive_buffer: int | None = None,
        patience: float = WAIT_SECONDS,
        source: str = "127.0.0.1",
    ) -> None:
        """`source` is the client's address: one of the machine, such as any of 127.0.0.0/8."""
        self._socket = socket.socket()
        self._socket.bind((source, 0))
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(patience)
        try:
            self._socket.connect(("127.0.0.1", port))
        except BaseException:
            self._socket.close()
            raise
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_head(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        lines = [
            f"{method} {target} HTTP/1.1",
            "host: 127.0.0.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def begin_upload(self, size: int, headers: Mapping[str, str], name: str = "photo.jpg") -> None:
        """Send the request's head and the beginning of the form, for a file of `size` bytes."""
        head = form_head(name)
        length = len(head) + size + len(FORM_TAIL)
        self.send_head("POST", "/api/assets", {"content-type": FORM_TYPE, "content-length": str(length), **headers})
        self.send(head)

    def send_while_accepted(self, pieces: Iterable[bytes]) -> None:
        """Send until the server accepts no more, or this connection is closed."""
        with suppress(OSError):
            for piece in pieces:
                self._socket.sendall(piece)

    def receive(self, size: int) -> bytes:
        """Receive at most `size` bytes; empty at the end of the connection."""
        taken, self._received = self._received[:size], self._received[size:]
        return taken or self._socket.recv(size)

    def head(self) -> tuple[int, dict[str, str]]:
        """Receive the next status and headers, names in lower case."""
        while b"\r\n\r\n" not in self._received:
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError("the connection ended before an answer")
            self._received += data
        text, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = text.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def answer(self, on_interim: Callable[[dict[str, str]], None] | None = None) -> UploadAnswer:
        """Receive the next answer with its body, which needs a `Content-Length`. `on_interim` is called with the headers of each interim
        response before it; without it, an interim response is the answer."""
        status, headers = self.head()
        while on_interim is not None and status < 200:
            on_interim(headers)
            status, headers = self.head()
        length = int(headers.get("content-length", "0"))
        body = bytearray(self._received[:length])
        self._received = self._received[length:]
        with suppress(ConnectionError):
            while len(body) < length and (data := self._socket.recv(min(RECEIVE_BYTES, length - len(body)))):
                body += data
        return UploadAnswer(status, headers, bytes(body), len(body) == length)

    def end(self) -> None:
        """Close the sending direction only."""
        self._socket.shutdown(socket.SHUT_WR)

    def vanish(self) -> None:
        """Close with a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
