"""Reads a request's body from the socket without a turn of the event loop, which the transport takes for each of its reads."""

from __future__ import annotations

import asyncio
import os
import socket

READ_BYTES = 256 * 1024
"""The most that is read at a time."""


class BodyReader:
    """Reads what has arrived, without waiting. To be used only while the transport's reading is paused."""

    __slots__ = ("_descriptor", "_transport")

    def __init__(self, transport: asyncio.Transport, descriptor: int) -> None:
        self._transport = transport
        self._descriptor = descriptor

    def read(self, limit: int) -> bytes:
        """At most `limit` bytes. Empty where none have arrived, and where the connection has ended or failed: the transport tells that when its
        reading resumes."""
        if self._transport.is_closing():
            return b""
        try:
            return os.read(self._descriptor, min(limit, READ_BYTES))
        except OSError:
            return b""


def create_body_reader(transport: asyncio.Transport) -> BodyReader | None:
    """None for a connection whose bytes are encrypted (TLS)."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or transport.get_extra_info("sslcontext") is not None:
        return None
    return BodyReader(transport, connection.fileno())
