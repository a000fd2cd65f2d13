"""The load client, a process of its own: downloads a whole file, or uploads one as a form, over a plain socket."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BUFFER_BYTES = 1024 * 1024
BOUNDARY = "mediavault-bench"
SALT_BYTES = 20
JPEG = b"\xff\xd8\xff\xe0"
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
    before, after = _frame_form("film.mp4")
    before += bytes.fromhex(salt)
    form = _form_fields(len(before) + Path(file).stat().st_size + len(after))
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection, Path(file).open("rb") as source:
        connection.sendall(_build_request("POST", path, headers | form) + before)
        connection.sendfile(source)
        connection.sendall(after)
        print(_read_json(connection).decode())


def upload_photos(port: int, path: str, headers: dict[str, str], size: int, count: int, connections: int) -> None:
    """Upload so many different photos of `size` random bytes, which begin as a JPEG does, over so many connections. Prints the answers and the seconds."""
    numbers = iter(range(count))
    content, salt = os.urandom(size - SALT_BYTES), os.urandom(SALT_BYTES - len(JPEG) - 4)
    before, after = _frame_form("photo.jpg")
    fields = headers | _form_fields(len(before) + size + len(after))
    head = _build_request("POST", path, fields) + before + JPEG + salt

    def run() -> list[dict[str, str]]:
        answers: list[dict[str, str]] = []
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            for number in numbers:
                connection.sendall(head + number.to_bytes(4) + content + after)
                answers.append(json.loads(_read_json(connection)))
        return answers

    with ThreadPoolExecutor(connections) as threads:
        started = time.perf_counter()
        uploads = [threads.submit(run) for _ in range(connections)]
        answers = [answer for upload in uploads for answer in upload.result()]
        print(json.dumps({"answers": answers, "seconds": time.perf_counter() - started}))


def upload_in_chunks(
    port: int, path: str, headers: dict[str, str], file: str, salt: str, chunk_bytes: int, size: int, sessions: int
) -> None:
    """Upload the first `size` bytes by tus, in so many sessions at once; each begins with a salt of its own. Prints the assets' ids."""
    with ThreadPoolExecutor(sessions) as threads:
        salts = [bytes.fromhex(salt) + number.to_bytes(4) for number in range(sessions)]
        uploads = [threads.submit(_upload_by_tus, port, path, headers, file, each, chunk_bytes, size) for each in salts]
        print(json.dumps([upload.result() for upload in uploads]))


def _upload_by_tus(
    port: int, path: str, headers: dict[str, str], file: str, salt: bytes, chunk_bytes: int, size: int
) -> str:
    moment = base64.b64encode(b"2024-06-01T12:00:00Z").decode()
    name = base64.b64encode(b"film.mp4").decode()
    told = {
        "Upload-Length": str(size),
        "Upload-Metadata": f"filename {name},fileCreatedAt {moment},fileModifiedAt {moment}",
        "Content-Length": "0",
    }
    common = headers | {"Tus-Resumable": "1.0.0"}
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection, Path(file).open("rb") as source:
        connection.sendall(_build_request("POST", path, common | told))
        head = _read_empty_response(connection, "201")
        location = urlsplit(_read_field(head, "location")).path
        for offset in range(0, size, chunk_bytes):
            count = min(chunk_bytes, size - offset)
            chunk = {
                "Upload-Offset": str(offset),
                "Content-Type": "application/offset+octet-stream",
                "Content-Length": str(count),
                "Accept": "text/plain",
            }
            connection.sendall(_build_request("PATCH", location, common | chunk))
            start = salt if not offset else b""
            connection.sendall(start)
            connection.sendfile(source, offset + len(start), count - len(start))
            head = _read_empty_response(connection, "204")
    return _read_field(head, "mediavault-asset-id")


def _frame_form(filename: str) -> tuple[bytes, bytes]:
    """What comes before and after the file in the body of an upload."""
    fields = {"fileCreatedAt": "2024-06-01T12:00:00Z", "fileModifiedAt": "2024-06-01T12:00:00Z"}
    start = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    start += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="assetData"; filename="{filename}"\r\n'
    return (start + "Content-Type: application/octet-stream\r\n\r\n").encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


def _form_fields(length: int) -> dict[str, str]:
    return {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(length)}


def _read_json(connection: socket.socket) -> bytes:
    head, body = _read_response_head(connection)
    if " 200 " not in head and " 201 " not in head:
        raise SystemExit(f"{head}\n{body.decode(errors='replace')}")
    while not body.rstrip().endswith(b"}"):
        body += connection.recv(BUFFER_BYTES) or b"}"
    return body


def _read_empty_response(connection: socket.socket, status: str) -> str:
    head, body = _read_response_head(connection)
    if f" {status} " not in head:
        raise SystemExit(f"{head}\n{body.decode(errors='replace')}")
    _discard_body(connection, int(_read_field(head, "content-length") or 0) - len(body))
    return head


def _read_field(head: str, name: str) -> str:
    fields = (line.partition(":") for line in head.split("\r\n")[1:])
    return next((value.strip() for field, _, value in fields if field.lower() == name), "")


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
    actions: dict[str, Any] = {each.__name__: each for each in (fetch, drain, upload, upload_photos, upload_in_chunks)}
    actions[action](**parameters)


if __name__ == "__main__":
    main()
