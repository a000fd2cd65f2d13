"""uvicorn's HTTP protocol with one addition: an answer that is in memory is written when its request has been read.

An ASGI call costs a task, an event, a message for the head and one for the body, and uvicorn's check of each header; for a
small range that is more than all the rest. Whatever `Front.at_once` does not answer goes uvicorn's way, unchanged.
"""

from __future__ import annotations

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.front import Front


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=...)`."""

    _may_answer = False

    def data_received(self, data: bytes) -> None:
        # One answer for what was read in one go: a client that sends many requests together waits its turn after the first.
        self._may_answer = True
        super().data_received(data)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # An answer at once may have set the time-out within the same `data_received`.
        self._unset_keepalive_if_required()
        if not (self._may_answer and self._answered(cycle, app)):
            super()._start_asgi_task(cycle, app)

    def _answered(self, cycle: RequestResponseCycle, app: ASGI3Application) -> bool:
        # `app` is something else where uvicorn refuses the request. A client that reads slowly, or wants the connection
        # closed, gets uvicorn's care.
        if not isinstance(app, Front) or not cycle.keep_alive or self.flow.write_paused or self.transport.is_closing():
            return False
        answer = app.at_once(cycle.scope)
        if answer is None:
            return False
        self._may_answer = False
        head, body = answer
        lines = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        self.transport.writelines((b"%b%b\r\n" % (head, lines), body))
        cycle.response_started = cycle.response_complete = True
        cycle.on_response()
        return True
