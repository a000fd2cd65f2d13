"""Extends uvicorn's request cycle and flow control: reading can be held, and `HttpProtocol` closes the connection, not uvicorn."""

from __future__ import annotations

import asyncio
from asyncio import Transport
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.api.http.request_body import BodyFraming
from app.api.http.responses.body_reader import BodyReader
from app.api.http.responses.file_sender import FileSender
from app.delivery.response import ZERO_COPY_SEND

MAX_UNAWAITED_BYTES = 1024 * 1024
"""After so many bytes that were read without waiting, the other connections have their turn."""
MAX_IGNORED_BODY_BYTES = 64 * 1024
"""The longest rest of a body that is read and discarded after the response has started, to keep the connection for the next request."""


class Signal:
    """What uvicorn needs of an `asyncio.Event`, in a seventh of its memory: each connection and each request has one."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiters: list[asyncio.Future[None]] = []

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        if self._is_set:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)


class HoldableFlowControl(FlowControl):
    """Flow control whose reading stays paused while it is held, even if uvicorn resumes it."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._is_writable_event = Signal(is_set=True)  # pyright: ignore[reportAttributeAccessIssue, reportIncompatibleUnannotatedOverride]
        self._is_held = False

    @property
    def may_read_directly(self) -> bool:
        """Whether the transport reads nothing for now, and a part of the body may be read past it."""
        return self.read_paused and not self._is_held

    def hold_reading(self) -> None:
        self._is_held = True
        self.pause_reading()

    def release_reading(self, *, is_body_buffered: bool) -> None:
        """`is_body_buffered`: a part of the body waits for the handler; reading resumes when the handler has taken it."""
        self._is_held = False
        if not is_body_buffered:
            self.resume_reading()

    def resume_reading(self) -> None:
        if not self._is_held:
            super().resume_reading()


class UvicornRequestCycle(RequestResponseCycle):
    """A request cycle that does not close the connection itself: it sets `closes_connection` before it calls `on_response`.

    The connection closes if the response starts while more than `MAX_IGNORED_BODY_BYTES` of the body may still arrive. It also closes if
    the response replaces `100 Continue`: the client may then send no body. It closes too if `is_draining()` when the response starts.
    """

    flow: HoldableFlowControl
    closes_connection = False
    on_disconnect: Callable[[], None] | None = None
    """See `DisconnectSource`."""

    def __init__(
        self,
        *,
        request_body: BodyFraming,
        is_draining: Callable[[], bool],
        file_sender: FileSender | None,
        body_reader: BodyReader | None,
        on_body_read: Callable[[], None],
        **options: Any,
    ) -> None:
        """`file_sender`: None where the connection has none, and so the scope no `ZERO_COPY_SEND`. `on_body_read` is called when the cycle
        has read the end of the body by `body_reader`."""
        super().__init__(**options)
        self.file_sender = file_sender
        self._body_reader = body_reader
        self._on_body_read = on_body_read
        self._unawaited_bytes = 0
        self._request_body = request_body
        self._is_draining = is_draining

    def disconnect(self) -> None:
        """The client is gone, or no more of its body is taken."""
        self.disconnected = True
        self.message_event.set()
        if self.on_disconnect is not None:
            self.on_disconnect()

    async def run_asgi(self, app: Any) -> None:
        try:
            await super().run_asgi(app)
        finally:
            # They refer to this object: without the cycle, request and response are freed without the garbage collector.
            self.scope["extensions"] = {}  # pyright: ignore[reportGeneralTypeIssues]
            self._on_body_read = _ignore

    async def receive(self) -> Any:
        """Bytes that arrived before the client disconnected come before the disconnect: a resumable upload keeps them."""
        if self.disconnected and self.body and not self.response_complete:
            body, self.body = bytes(self.body), bytearray()
            return {"type": "http.request", "body": body, "more_body": self.more_body}
        if data := self._read_arrived():
            return {"type": "http.request", "body": data, "more_body": self.more_body}
        message = await super().receive()
        if message["type"] == "http.disconnect" and self.body and not self.response_complete:
            return await self.receive()
        return message

    def _read_arrived(self) -> bytes:
        """Bytes of the body that wait in the socket while the transport does not read: they cost no turn of the event loop. Empty where
        `receive` has to wait."""
        reader, framing = self._body_reader, self._request_body
        if (
            reader is None
            or self.body
            or not framing.bytes_left
            or not self.flow.may_read_directly
            or self.disconnected
            or self.response_complete
            or self._unawaited_bytes >= MAX_UNAWAITED_BYTES
        ):
            self._unawaited_bytes = 0
            return b""
        data = reader.read(framing.bytes_left)
        self._unawaited_bytes += len(data)
        if data and framing.skip(len(data)):
            self._on_body_read()
        return data

    async def send(self, message: Any) -> None:
        if message["type"] == ZERO_COPY_SEND:
            await self._send_file(message)
            return
        if not self.response_started and (self._is_draining() or (self.more_body and self._has_unread_body)):
            self.keep_alive = False
        if not self.keep_alive and self.response_started and not message.get("more_body", False):
            self.closes_connection = self.keep_alive = True
        await super().send(message)

    async def _send_file(self, message: Any) -> None:
        """Send a part of a file. As uvicorn does for bytes: nothing for a client that is gone, an exception for what is no part of the body."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        count: int = message["count"]
        if self.file_sender is None or not self.response_started or self.response_complete or self.chunked_encoding:
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r}")
        if count > self.expected_content_length:
            raise RuntimeError("Response content longer than Content-Length")
        await self.file_sender.send(message["file"], message["offset"], count)
        self.expected_content_length -= count
        if not message.get("more_body", False):
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def _has_unread_body(self) -> bool:
        return self.waiting_for_100_continue or self._request_body.may_exceed(MAX_IGNORED_BODY_BYTES)


def _ignore() -> None:
    """The request has ended."""
