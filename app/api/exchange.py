"""One request and its answer as the server's protocol sees them: when to read on, and when to close."""

from __future__ import annotations

from asyncio import Transport
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


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
    """Leaves the close after an answer to `on_response`, which finds `closes` set."""

    closes = False

    async def send(self, message: Any) -> None:
        if not self.keep_alive and self.response_started and not message.get("more_body", False):
            self.closes = self.keep_alive = True
        await super().send(message)
