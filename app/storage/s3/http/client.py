"""`HttpClient`: sends GETs over connections that are kept open between requests. It follows no redirect and knows no proxy."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohappyeyeballs

from app.storage.s3.http.connection import HttpConnection
from app.storage.s3.http.response import ConnectionEnded, HttpError, HttpResponse

KEEP_ALIVE_SECONDS = 12.0
_NEXT_ADDRESS_SECONDS = 0.25
"""After this time without a connection the next address of the host is tried, too (RFC 8305 section 5)."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNSENDABLE = re.compile(r"[^\x21-\x7e]")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


class ConnectorError(HttpError):
    """No connection could be made."""


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """What a URL tells of a request: where it goes, and how its head begins."""

    url: str
    is_secure: bool
    host: str
    port: int
    head: bytes

    @classmethod
    def parse(cls, url: str) -> RequestTarget:
        """`url` is percent-encoded, and reaches the server unchanged. Raises `ValueError`."""
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or _UNSENDABLE.search(url):
            raise ValueError("no URL of an HTTP server")
        default = _DEFAULT_PORTS[parts.scheme]
        port = parts.port or default
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        host = name if port == default else f"{name}:{port}"
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        lines = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: mediavault\r\nAccept: */*\r\n"
        return cls(url, parts.scheme == "https", parts.hostname, port, lines.encode("ascii"))

    def encode_request(self, headers: Mapping[str, str]) -> bytes:
        """Raises `ValueError` for a value that could inject a field."""
        if any(map(_CONTROL_CHARACTERS.search, headers.values())):
            raise ValueError("a control character in a header field")
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return b"%b%b\r\n" % (self.head, lines.encode("utf-8", "surrogateescape"))


class HttpClient:
    """All connections of one reader. The caller limits how many requests run at once; as many connections stay open."""

    def __init__(
        self, tls: ssl.SSLContext | None, *, max_idle: int, connect_seconds: float, read_seconds: float
    ) -> None:
        self._tls = tls
        self._max_idle = max_idle
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._idle: dict[HttpConnection, tuple[bool, str, int]] = {}
        """Connections that carry no request, with what they lead to; the one that was used last comes last."""
        self._origins: dict[HttpConnection, tuple[bool, str, int]] = {}
        """All open connections."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def get(self, target: RequestTarget, headers: Mapping[str, str]) -> HttpResponse:
        """Returns after the head of the response. Raises `HttpError`, `OSError` and `TimeoutError`."""
        request = target.encode_request(headers)
        connection = self._take_idle((target.is_secure, target.host, target.port))
        if connection is not None:
            # The server may have closed it while it was idle (RFC 9112 section 9.3.1), with a 408 (RFC 9110 section 15.5.9): a GET may be
            # sent again.
            try:
                response = await connection.send(request)
                if response.status != HTTPStatus.REQUEST_TIMEOUT:
                    return response
                response.close()
            except ConnectionEnded:
                if connection.has_received:
                    raise
        connection = await self._connect(target)
        return await connection.send(request)

    async def aclose(self) -> None:
        """Closes all connections; reads that go on fail, and so do later ones."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self._origins):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    def _take_idle(self, origin: tuple[bool, str, int]) -> HttpConnection | None:
        oldest = asyncio.get_running_loop().time() - KEEP_ALIVE_SECONDS
        for connection in reversed(self._idle):
            if self._idle[connection] == origin and connection.idle_since > oldest and not connection.is_closing:
                del self._idle[connection]
                return connection
        return None

    async def _connect(self, target: RequestTarget) -> HttpConnection:
        if target.is_secure and self._tls is None:
            raise ConnectorError("no TLS is configured")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_seconds):
            try:
                found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
                connected = await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType]
                    found, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1
                )
            except OSError as error:
                raise ConnectorError(*error.args) from error
            connection = HttpConnection(self._on_idle, self._on_lost, self._read_seconds)
            try:
                await loop.create_connection(
                    lambda: connection,
                    sock=connected,
                    ssl=self._tls if target.is_secure else None,
                    server_hostname=target.host if target.is_secure else None,
                )
            except BaseException:
                connection.close()  # before its socket, whose descriptor number may be used again
                connected.close()
                raise
        if self._is_closed or connection.is_closing:
            connection.close()
            raise ConnectorError("closed at once")
        self._origins[connection] = (target.is_secure, target.host, target.port)
        return connection

    def _on_idle(self, connection: HttpConnection) -> None:
        origin = self._origins.get(connection)
        if origin is None or len(self._idle) >= self._max_idle:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[connection] = origin
        if self._timer is None:
            self._timer = loop.call_later(KEEP_ALIVE_SECONDS, self._close_idle)

    def _on_lost(self, connection: HttpConnection) -> None:
        self._idle.pop(connection, None)
        self._origins.pop(connection, None)

    def _close_idle(self) -> None:
        """Closes those that were idle for long."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEEP_ALIVE_SECONDS
        for connection in [each for each in self._idle if each.idle_since <= oldest]:
            del self._idle[connection]
            connection.close()
        self._timer = loop.call_later(KEEP_ALIVE_SECONDS, self._close_idle) if self._idle else None
