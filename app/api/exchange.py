"""One request and its answer as the server's protocol sees them: when to read on, and when to close."""

from __future__ import annotations

from asyncio import Transport
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.api.request_body import BodyFraming

MAX_IGNORED_BODY_BYTES = 64 * 1024
"""Of a body that comes after the answer to its request has begun, and is read for the sake of the next request."""


class ReadGate(FlowControl):
    """Does not read on while it is held, whoever wants to."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._held = False

    def hold(self) -> None:
        self._held = True
        self.pause_reading()

    def release(self, *, full: bool) -> None:
        """`full`: a body waits to be taken, and reading goes on when it has been."""
        self._held = False
        if not full:
            self.resume_reading()

    def resume_reading(self) -> None:
        if not self._held:
            super().resume_reading()


class Cycle(RequestResponseCycle):
    """Leaves the close after an answer to `on_response`, which finds `closes` set. An answer that begins while much of the body is
    still to come ends the connection, and so does one instead of `100 Continue`: who waited for that may send no body."""

    closes = False

    def __init__(self, *, request_body: BodyFraming, **options: Any) -> None:
        super().__init__(**options)
        self._request_body = request_body

    async def send(self, message: Any) -> None:
        if not self.response_started and self.more_body and self._body_is_left_unread:
            self.keep_alive = False
        if not self.keep_alive and self.response_started and not message.get("more_body", False):
            self.closes = self.keep_alive = True
        await super().send(message)

    @property
    def _body_is_left_unread(self) -> bool:
        return self.waiting_for_100_continue or self._request_body.exceeds(MAX_IGNORED_BODY_BYTES)
