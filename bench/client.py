"""The load client, a process of its own: downloads a whole file, or uploads one as a form, over a plain socket."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

BUFFER_BYTES = 1024 * 1024
BOUNDARY = "mediavault-bench"
TIMEOUT_SECONDS = 300


def fetch(port: int, path: str, headers: dict[str, str], size: int, times: int) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        for _ in range(times):
            connection.sendall(_build_request("GET", path, headers))
            head, received = _read_response_head(connection)
            if " 200 " not in head:
                raise SystemExit(head)
            _discard_body(connection, size - len(received))


def drain(port: int, path: str, headers: dict[str, str]) -> None:
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        connection.sendall(_build_request("GET", path, headers | {"Connection": "close"}))
        head, body = _read_response_head(connection)
        if " 200 " not in head:
            raise SystemExit(head)
        received, buffer = len(body), bytearray(BUFFER_BYTES)
        while count := connection.recv_into(buffer):
            received += count
    print(json.dumps({"bytes": received, "seconds": time.perf_counter() - started}))


def upload(port: int, path: str, headers: dict[str, str], file: str, salt: str) -> None:
    fields = {"fileCreatedAt": "2024-06-01T12:00:00Z", "fileModifiedAt": "2024-06-01T12:00:00Z"}
    start = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    start += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="assetData"; filename="film.mp4"\r\n'
    before = (start + "Content-Type: application/octet-stream\r\n\r\n").encode() + bytes.fromhex(salt)
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    length = len(before) + Path(file).stat().st_size + len(after)
    form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(length)}
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection, Path(file).open("rb") as source:
        connection.sendall(_build_request("POST", path, headers | form) + before)
        connection.sendfile(source)
        connection.sendall(after)
        head, body = _read_response_head(connection)
        if " 200 " not in head and " 201 " not in head:
            raise SystemExit(f"{head}\n{body.decode(errors='replace')}")
        while not body.rstrip().endswith(b"}"):
            body += connection.recv(BUFFER_BYTES) or b"}"
        print(body.decode())


def _build_request(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _read_response_head(connection: socket.socket) -> tuple[str, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(BUFFER_BYTES)
        if not chunk:
            raise SystemExit(f"the connection ended early: {received!r}")
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


def _discard_body(connection: socket.socket, remaining: int) -> None:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    while remaining > 0:
        count = connection.recv_into(buffer[: min(remaining, BUFFER_BYTES)])
        if not count:
            raise SystemExit(f"the connection ended {remaining} bytes early")
        remaining -= count


def main() -> None:
    action, parameters = sys.argv[1], json.loads(sys.argv[2])
    actions: dict[str, Any] = {"fetch": fetch, "drain": drain, "upload": upload}
    actions[action](**parameters)


if __name__ == "__main__":
    main()
