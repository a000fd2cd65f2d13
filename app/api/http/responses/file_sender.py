"""`FileSender`: sends parts of open files over a plain connection by sendfile(2): the kernel takes them from the page cache, without a copy
in this process, so a client that reads slowly holds no buffer of ours.

uvloop's `loop.sendfile` is not implemented. So a duplicate of the connection's descriptor is waited for, beside uvloop's transport, whose own
buffer must be empty meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from uvicorn.protocols.http.flow_control import FlowControl

from app.storage.errors import ObjectChanged
from app.storage.ranges import SendableFile

_CONNECTION_ERRORS = frozenset(
    {
        errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN,
        errno.EPROTO,
    }
)  # fmt: skip
"""In addition to `ConnectionError`s. All others are errors of the file."""


class FileSender:
    """For one connection; sends one part at a time."""

    __slots__ = ("_connection", "_flow", "_left", "_loop", "_transport", "_writable")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        flow: FlowControl,
        connection: socket.socket,
    ) -> None:
        """`connection` is the transport's."""
        self._loop = loop
        self._transport = transport
        self._flow = flow
        self._connection = connection
        self._left = 0
        self._writable: asyncio.Future[None] | None = None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait until the client has taken others."""
        return self._left if self._writable is not None else 0

    def on_connection_lost(self) -> None:
        self._wake()

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
                sent = os.sendfile(self._connection.fileno(), file.fileno(), offset, end - offset)
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
        descriptor = os.dup(self._connection.fileno())
        try:
            self._writable = self._loop.create_future()
            self._loop.add_writer(descriptor, self._wake)
            try:
                await self._writable
            finally:
                self._writable = None
                self._loop.remove_writer(descriptor)
        finally:
            os.close(descriptor)

    def _wake(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)


def create_file_sender(
    loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, flow: FlowControl
) -> FileSender | None:
    """None for a connection whose bytes are encrypted here (TLS)."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or transport.get_extra_info("sslcontext") is not None:
        return None
    return FileSender(loop, transport, flow, connection)
