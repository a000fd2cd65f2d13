"""`FileSender`: sends parts of open files over a plain connection by sendfile(2): the kernel takes them from the page cache, without a copy
in this process, so a client that reads slowly holds no buffer of ours.

uvloop's `loop.sendfile` is not implemented. So the connection's descriptor is written to beside uvloop's transport, whose own buffer must be
empty meanwhile, and waited for by a `SocketPoller`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from uvicorn.protocols.http.flow_control import FlowControl

from app.api.http.responses.socket_poller import SocketPoller
from app.storage.errors import ObjectChanged
from app.storage.ranges import SendableFile

MAX_SEND_BYTES = 2 * 1024 * 1024
"""What one system call may send, and so keep the event loop for, some tenths of a millisecond. Other connections have their turn between two
calls."""

_CONNECTION_ERRORS = frozenset(
    {
        errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN,
        errno.EPROTO,
    }
)  # fmt: skip
"""In addition to `ConnectionError`s. All others are errors of the file."""


class FileSender:
    """For one connection; sends one part at a time."""

    __slots__ = ("_connection", "_flow", "_left", "_poller", "_transport", "_wait")

    def __init__(
        self, transport: asyncio.Transport, flow: FlowControl, connection: socket.socket, poller: SocketPoller
    ) -> None:
        """`connection` is the transport's."""
        self._transport = transport
        self._flow = flow
        self._connection = connection
        self._poller = poller
        self._left = 0
        self._wait: asyncio.Future[None] | None = None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait until the client has taken others."""
        return self._left if self._wait is not None else 0

    def on_connection_lost(self) -> None:
        """Call before the socket is closed."""
        self._end_wait()

    async def send(self, file: SendableFile, offset: int, count: int) -> None:
        """Returns when the kernel has taken all of the bytes, or the connection is closed. Raises `ObjectChanged` where the file has fewer, and
        the errors of its disk."""
        await self._wait_for_transport()
        end = offset + count
        while offset < end and not self._transport.is_closing():
            if not file.is_cached(offset, end - offset):
                await file.load(offset, end - offset)
                if self._transport.is_closing():
                    return
            try:
                sent = os.sendfile(self._connection.fileno(), file.fileno(), offset, min(MAX_SEND_BYTES, end - offset))
            except BlockingIOError:
                pass
            except OSError as error:
                if not isinstance(error, ConnectionError) and error.errno not in _CONNECTION_ERRORS:
                    raise
                self._transport.abort()
                return
            else:
                if not sent:
                    raise ObjectChanged(file.key, file.backend, f"ends at {offset} bytes now")
                offset += sent
            if offset < end:
                self._left = end - offset
                await self._wait_for_client()

    async def _wait_for_transport(self) -> None:
        """Wait until the head, and all that was written before, has left the transport's buffer."""
        if not self._transport.get_write_buffer_size():
            return
        self._transport.set_write_buffer_limits(high=0)  # pauses writing until the buffer is empty
        try:
            await self._flow.drain()
        finally:
            if not self._transport.is_closing():
                self._transport.set_write_buffer_limits()

    async def _wait_for_client(self) -> None:
        try:
            self._wait = self._poller.begin_wait(self._connection.fileno())
        except ConnectionAbortedError:
            self._transport.abort()
            return
        try:
            await self._wait
        finally:
            self._end_wait()

    def _end_wait(self) -> None:
        if self._wait is not None:
            self._wait = None
            self._poller.end_wait(self._connection.fileno())


def create_file_sender(transport: asyncio.Transport, flow: FlowControl, poller: SocketPoller) -> FileSender | None:
    """None for a connection whose bytes are encrypted here (TLS)."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or transport.get_extra_info("sslcontext") is not None:
        return None
    return FileSender(transport, flow, connection, poller)
