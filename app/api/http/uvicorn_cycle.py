"""One request and its answer as the server's protocol sees them: when to read on, and when to close."""

from __future__ import annotations

from asyncio import Transport
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.api.http.request_body import BodyFraming

MAX_IGNORED_BODY_BYTES = 64 * 1024
"""Of a body that comes after the answer to its request has begun, and is read for the sake of the next request."""


class HoldableFlowControl(FlowControl):
    """Does not read on while it is held, whoever wants to."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._is_held = False

    def hold_reading(self) -> None:
        self._is_held = True
        self.pause_reading()

    def release_reading(self, *, is_body_buffered: bool) -> None:
        """`is_body_buffered`: a body waits to be taken, and reading goes on when it has been."""
        self._is_held = False
        if not is_body_buffered:
            self.resume_reading()

    def resume_reading(self) -> None:
        if not self._is_held:
            super().resume_reading()


class UvicornRequestCycle(RequestResponseCycle):
    """Leaves the close after an answer to `on_response`, which finds `closes_connection` set. An answer that begins while much of the body is
    still to come ends the connection, and so does one instead of `100 Continue`: who waited for that may send no body."""

    closes_connection = False

    def __init__(self, *, request_body: BodyFraming, **options: Any) -> None:
        super().__init__(**options)
        self._request_body = request_body

    async def send(self, message: Any) -> None:
        if not self.response_started and self.more_body and self._has_unread_body:
            self.keep_alive = False
        if not self.keep_alive and self.response_started and not message.get("more_body", False):
            self.closes_connection = self.keep_alive = True
        await super().send(message)

    @property
    def _has_unread_body(self) -> bool:
        return self.waiting_for_100_continue or self._request_body.may_exceed(MAX_IGNORED_BODY_BYTES)
