"""uvicorn's HTTP protocol with two additions: bounds on what comes before a body, and answers without a task.

uvicorn sets no bounds to a head: not to its size, nor to its time, and none to what stands between the chunks of a body or
after them. Here a connection that exceeds them, or one too many, is refused in the one error shape and closed.

An ASGI call costs a task, an event, a message for the head and one for the body, and uvicorn's check of each header; for a
small range that is more than all the rest. So an answer that is in memory is written when its request has been read. Whatever
`Front.at_once` does not answer goes uvicorn's way, unchanged.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.errors import ApiError
from app.api.front import LINGER_BYTES, LINGER_SECONDS, Front, new_correlation_id, problem_answer

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=...)`; its `limit_concurrency` is the most connections."""

    head_seconds = HEAD_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Here a connection is refused, not each request of those that are open.
        self._most_connections, self.limit_concurrency = self.limit_concurrency, None
        self._may_answer = False
        self._in_head = False
        self._moved = False
        self._stray_bytes = 0
        self._read_bytes = 0
        self._refusal: ApiError | None = None
        self._refused = False
        self._left_to_discard = LINGER_BYTES
        self._timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        most = self._most_connections
        if most is None or len(self.connections) <= most:
            self._timer = self.loop.call_later(self.head_seconds, self._head_is_late)
        elif len(self.connections) <= 2 * most:
            self._refuse(ApiError(503, "Too many connections, try later", headers={"retry-after": "5"}))
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._left_to_discard -= len(data)
            if self._left_to_discard < 0:
                self.transport.close()
            return
        # One answer for what was read in one go: a client that sends many requests together waits its turn after the first.
        self._may_answer = True
        self._moved = False
        self._read_bytes = len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("This is no HTTP request")
        if self._refused:
            return
        self._stray_bytes = 0 if self._moved else self._stray_bytes + len(data)
        if self._stray_bytes > MAX_HEAD_BYTES:
            self._refuse(_head_too_large())
        elif self._in_head or (self.timeout_keep_alive_task is None and not self._answering):
            if self._timer is None:
                self._timer = self.loop.call_later(self.head_seconds, self._head_is_late)
        elif self._timer is not None:
            self._stop_timer()

    def _parse(self, data: bytes) -> None:
        """Parse by RFC 9112 section 6, whatever `Upgrade` says: no protocol is upgraded to here, so the field is ignored.

        llhttp ends a message that has it at its head and takes the body for the next request. Such a head is parsed again
        without the field, by a new parser, which goes on with the body. Raises `httptools.HttpParserError`.
        """
        unparsed: bytes | memoryview = data
        while unparsed:
            try:
                self.parser.feed_data(unparsed)
            except httptools.HttpParserUpgrade as upgrade:
                unparsed = memoryview(unparsed)[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        version = self.parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, b"".join(lines))

    def on_message_begin(self) -> None:
        self._in_head = self._moved = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._moved = True
        if (self._stray_bytes or self._read_bytes > MAX_HEAD_BYTES) and self._head_size() > MAX_HEAD_BYTES:
            self._refusal = _head_too_large()
            raise self._refusal  # out of the parser; uvicorn calls send_400_response
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refusal = ApiError(501, "CONNECT is not implemented")
                raise self._refusal
            return  # `_parse` parses this head again
        super().on_headers_complete()
        self.headers = []  # the scope has them; what comes now are trailers, and those are nobody's headers

    def on_body(self, body: bytes) -> None:
        self._moved = True
        waiting = self.cycle.body
        if not waiting:
            # uvicorn would copy these bytes into its buffer, and the buffer once more; added to no bytes they stay what they are.
            self.cycle.body = b""  # pyright: ignore[reportAttributeAccessIssue]
        elif not isinstance(waiting, bytearray):  # many small ones are gathered
            self.cycle.body = bytearray(waiting)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def eof_received(self) -> None:
        """The client sends no more: it counts as gone, and the connection is closed. In the middle of a body it may still read why."""
        if not self._refused and self._in_body:
            self._refuse(ApiError(400, "The body ended before it was complete"))

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or ApiError(400, msg))

    def _should_upgrade(self) -> bool:
        return False

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _in_body(self) -> bool:
        """What arrives is the body of the request that is answered next, and nothing of its answer has been sent."""
        return self._answering and self.cycle.more_body and not self.cycle.response_started and not self.pipeline

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)

    def _head_is_late(self) -> None:
        self._timer = None
        if self._answering:  # what has begun behind a running request has to wait for it
            self._timer = self.loop.call_later(self.head_seconds, self._head_is_late)
        elif self._in_head:
            self._refuse(ApiError(408, "The request did not arrive in time"))
        else:
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Answer, and read on for a little, so that a client which is still sending gets to read it before the reset."""
        self._refused = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        correlation_id = new_correlation_id()
        log.warning("request refused", status=error.status, reason=error.message, correlation_id=correlation_id)
        if self._in_body:  # this is its answer; for whoever reads the body, the client is gone
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif (
            self._answering or self.transport.is_closing()
        ):  # an answer within another one would be taken for its bytes
            self.transport.close()
            return
        headers, body = problem_answer(error, correlation_id)
        headers += [(b"x-correlation-id", correlation_id.encode()), (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *headers)]
        self.transport.writelines([STATUS_LINE[error.status], *lines, b"\r\n", body])
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # An answer at once may have set the time-out within the same `data_received`.
        self._unset_keepalive_if_required()
        if not (self._may_answer and self._answered(cycle, app)):
            super()._start_asgi_task(cycle, app)

    def _answered(self, cycle: RequestResponseCycle, app: ASGI3Application) -> bool:
        # A client that reads slowly, or wants the connection closed, gets uvicorn's care.
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


def _head_too_large() -> ApiError:
    return ApiError(431, f"The request's head is larger than {MAX_HEAD_BYTES} bytes")
