"""An HTTP/1.1 client over a plain socket that sends arbitrary bytes and returns the exact response.

It shows what HTTP libraries hide: truncated bodies, connections kept or closed, unusual and repeated header fields.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

PATIENCE = 20.0
"""Time limit of each wait in seconds."""


@dataclass(frozen=True, slots=True)
class RawResponse:
    """`headers` in the order received, names in lower case. `complete` is False if the connection ended before the body did."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool

    def header(self, name: str) -> str | None:
        """The field's value; None if it is missing. Fails the test if it is sent twice."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is sent {len(values)} times"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.headers if field == name.lower()]


class RawConnection:
    """One connection. Requests may be pipelined: send several, then read as many responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def open(cls, host: str, port: int, *, receive_buffer: int | None = None) -> Self:
        """`receive_buffer` in bytes. With a small one the kernel buffers little for a client that does not read."""
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
            reader, writer = await asyncio.open_connection(sock=connection, limit=64 * 1024)
        return cls(reader, writer, f"{host}:{port}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            self._writer.write(data)
            await self._writer.drain()

    async def send_request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> None:
        fields = [("Host", self._host), *headers]
        if body is not None:
            fields.append(("Content-Length", str(len(body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        await self.send(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b""))

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> RawResponse:
        await self.send_request(method, target, headers, body)
        return await self.read_response(method)

    async def read_response(self, method: str = "GET") -> RawResponse:
        """The next final response; 1xx responses are skipped. `method` is that of the request."""
        while True:
            status, headers = await self.read_head()
            if status >= 200:
                break
        fields = dict(headers)
        if method == "HEAD" or status in (204, 304):
            return RawResponse(status, headers, b"", complete=True)
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return RawResponse(status, headers, *await self._read_chunked())
        if "content-length" in fields:
            body = await self.read_up_to(int(fields["content-length"]))
            return RawResponse(status, headers, body, complete=len(body) == int(fields["content-length"]))
        return RawResponse(status, headers, await self.read_to_end(), complete=True)

    async def read_head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Status and header fields only; read the body with `read_up_to`."""
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(status_line.split(" ", 2)[1]), tuple((name.lower(), value.strip()) for name, _, value in pairs)

    async def read_up_to(self, count: int) -> bytes:
        """`count` bytes, or fewer if the connection ends before."""
        pieces: list[bytes] = []
        left = count
        while left:
            async with asyncio.timeout(PATIENCE):
                piece = await self._read(min(left, 1024 * 1024))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    async def read_to_end(self) -> bytes:
        """All bytes until the server closes the connection."""
        pieces: list[bytes] = []
        async with asyncio.timeout(PATIENCE):
            while piece := await self._read(1024 * 1024):
                pieces.append(piece)
        return b"".join(pieces)

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()
        except ConnectionError:
            pass

    def vanish(self) -> None:
        """Reset the connection, as for a client whose process dies."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _read(self, limit: int) -> bytes:
        try:
            return await self._reader.read(limit)
        except ConnectionError:
            return b""

    async def _read_chunked(self) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
                    data = await self._reader.readexactly(size + 2)
            except (asyncio.IncompleteReadError, ConnectionError):
                return b"".join(pieces), False
            if not size:
                return b"".join(pieces), True
            pieces.append(data[:-2])


async def fetch(
    host: str, port: int, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
) -> RawResponse:
    """One request on a connection of its own."""
    async with await RawConnection.open(host, port) as connection:
        return await connection.request(method, target, headers, body)
