"""A uvicorn HTTP protocol with strict framing (RFC 9112), bounds on size and time, and responses from memory without an ASGI call.

uvicorn does not bound the size of a head, the time that a head may take, the size of chunk extensions and trailers, or the number of
pipelined requests. This protocol parses one request of a connection at a time: bytes received after that request stay unparsed, and
reading pauses (back-pressure). A connection that exceeds a bound gets a response in the error format and is closed.

An ASGI call costs a task, an event, a message for the head and one for the body, and uvicorn's check of each header field. For a
small range this costs more than all other work. So a response that is in memory is written as soon as its request is parsed, and a request
that repeats an earlier one for another asset or range is not parsed again (`RepeatedHead`). Requests that
`ApiApplication.answer_from_memory` does not answer become uvicorn's ordinary ASGI calls.
"""

from __future__ import annotations

import re
import socket
import time
from asyncio import TimerHandle, Transport
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.errors import ApiError
from app.api.http.application import ApiApplication, build_problem_response
from app.api.http.client_address import FORWARDED, FORWARDED_FOR
from app.api.http.connections import ConnectionAdmission, ConnectionRegistry
from app.api.http.repeated_head import RepeatedHead
from app.api.http.request_body import BodyFraming
from app.api.http.request_head import is_possible_head, is_valid_host, parse_body_length, parse_request_line
from app.api.http.responses.body_reader import BodyReader, create_body_reader
from app.api.http.responses.file_sender import FileSender, create_file_sender
from app.api.http.responses.interim_responses import INTERIM_RESPONSES, InterimResponder
from app.api.http.responses.uvicorn_cycle import (
    MAX_IGNORED_BODY_BYTES,
    HoldableFlowControl,
    Signal,
    UvicornRequestCycle,
)
from app.api.http.sockets import is_readable
from app.api.request_context import FROM_TRUSTED_PROXY, generate_correlation_id
from app.delivery.disconnects import DISCONNECT_SOURCE
from app.delivery.response import ZERO_COPY_SEND

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_SECONDS = 15.0
HEALTH_ONLY_HEAD_TIMEOUT_SECONDS = 2.0
"""For `HEALTH_ONLY` connections, which are over the limit."""
LINGER_IDLE_SECONDS = 8.0
"""Lingering close: the connection closes when nothing has arrived for this time after the last response."""
LINGER_SECONDS = 30.0
"""Lingering close: the longest time for which a connection is read after its last response."""
MAX_UNUSED_HEADS = 8
"""Heads that are remembered in a row without being repeated: then the client's heads differ each time, and no more are remembered."""
HEALTH_PATHS = frozenset({"/livez", "/readyz", "/healthz"})

_END_OF_HEAD = b"\r\n\r\n"
_BLANK_LINES = re.compile(rb"(?:\r\n)+")
_CARRIAGE_RETURN = 13
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_FORWARDED = frozenset({FORWARDED_FOR, FORWARDED})


class HttpProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`, with `registry` bound by `functools.partial`."""

    # With uvicorn's attributes, a dictionary of these would take a kilobyte more for each connection.
    __slots__ = (
        "_admission",
        "_application",
        "_blank_bytes",
        "_body",
        "_body_reader",
        "_client_of_request",
        "_client_sent_eof",
        "_data",
        "_file_sender",
        "_framing",
        "_in_head",
        "_in_message",
        "_is_http_1_1",
        "_is_turn_scheduled",
        "_keep_alive_until",
        "_known_host_field",
        "_last_received_at",
        "_linger_deadline",
        "_lingering",
        "_method",
        "_position",
        "_refusal",
        "_registry",
        "_repeated_head",
        "_repeated_scope",
        "_searched",
        "_timer",
        "_trusted",
        "_unused_heads",
    )

    cycle: UvicornRequestCycle
    flow: HoldableFlowControl

    head_timeout_seconds = HEAD_TIMEOUT_SECONDS

    def __init__(self, *arguments: Any, registry: ConnectionRegistry, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pipeline = ()  # pyright: ignore[reportAttributeAccessIssue] - uvicorn's queue, which is not used here
        self.parser = httptools.HttpRequestParser(self)
        self._application = self.app if isinstance(self.app, ApiApplication) else None
        self._registry = registry
        self._admission = ConnectionAdmission.REFUSED
        self._trusted = False
        self._client_of_request: str | None = None
        self._data = b""
        self._position = 0
        self._searched = 0
        self._in_head = False
        self._in_message = False
        self._method = b""
        self._is_http_1_1 = True
        self._framing: list[tuple[bytes, bytes]] = []
        self._known_host_field: tuple[bytes, bytes] | None = None
        """The `Host` field of an earlier request on this connection that was valid."""
        self._file_sender: FileSender | None = None
        self._body_reader: BodyReader | None = None
        self._repeated_head: RepeatedHead | None = None
        self._repeated_scope: dict[str, Any] = {}
        """The scope of the request that had this head; each repetition changes path, query and fields in it."""
        self._keep_alive_until = 0.0
        """On the loop's clock: when the keep-alive ends, if that is later than the timer's end."""
        self._unused_heads = 0
        """Heads that were remembered since the last repetition."""
        self._body = BodyFraming()
        self._blank_bytes = 0
        self._is_turn_scheduled = False
        self._client_sent_eof = False
        self._refusal: ApiError | None = None
        self._lingering = False
        self._linger_deadline = self._last_received_at = 0.0
        self._timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.flow = HoldableFlowControl(transport)  # pyright: ignore[reportIncompatibleVariableOverride]
        self._file_sender = create_file_sender(transport, self.flow, self._registry.poller)
        self._body_reader = create_body_reader(transport)
        self._trusted = self._registry.trusted_proxies.contains(self._address)
        self._admission = self._registry.register(
            self._address,
            transport,
            trusted=self._trusted,
            on_evicted=self._on_evicted,
            count_unsent_bytes=self._count_unsent_bytes,
        )
        if self._admission is ConnectionAdmission.ADMITTED:
            self._mark_idle()
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._registry.unregister(self._address, self.transport, self._admission)
        self._end_request()
        self._data = b""
        super().connection_lost(exc)
        if self._answering:
            self.cycle.disconnect()
        if self._file_sender is not None:
            self._file_sender.on_connection_lost()

    def _mark_idle(self) -> float:
        return self._registry.mark_idle(self._address, self.transport, self._on_closed_for_another)

    def _count_unsent_bytes(self) -> int:
        waiting = 0 if self._file_sender is None else self._file_sender.waiting_bytes
        return self.transport.get_write_buffer_size() + waiting

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._last_received_at = self.loop.time()
            return
        if self._repeated_head is not None and self._answer_repeated(self._repeated_head, data):
            return
        self._registry.mark_busy(self.transport)
        self._unset_keepalive_if_required()
        if self._position < len(self._data):
            self._data = self._data[self._position :] + data
        else:
            self._data = data
        self._position = 0
        if not self._is_turn_scheduled:
            self._parse()

    @property
    def is_idle(self) -> bool:
        """No request has begun to arrive, or waits for its response."""
        return not (self._answering or self._in_message or self._in_head or self._is_turn_scheduled or self._data)

    def shutdown(self) -> None:
        """Close an idle connection. Another one closes after the responses to the requests that have arrived (`ConnectionRegistry.is_draining`)."""
        if self.is_idle and not self._lingering and not self._has_unread_bytes():
            self.transport.close()

    def _has_unread_bytes(self) -> bool:
        """Whether a request has arrived that the event loop has not read yet. To close now would reset the connection."""
        connection: socket.socket | None = self.transport.get_extra_info("socket")
        return connection is not None and is_readable(connection)

    def eof_received(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The client closed its side. It still gets the responses to complete requests; an incomplete body gets a 400."""
        if self._lingering:
            return False
        self._client_sent_eof = True
        self.flow.hold_reading()
        return self._continues_after_eof()

    def _parse(self) -> None:
        """Parse the received bytes up to the end of the first request that has to wait for its response."""
        try:
            self._parse_messages()
        except ApiError as refusal:
            self._refuse(refusal)
        except httptools.HttpParserError:
            self._refuse(self._refusal or ApiError(400, "This is no HTTP request"))
        if self._lingering:
            return
        if self._position == len(self._data):
            self._data, self._position = b"", 0
        if self._is_turn_scheduled or (self._data and not self._in_head):
            self.flow.hold_reading()
        elif self.flow.read_paused and not self._client_sent_eof:
            self.flow.release_reading(is_body_buffered=self._answering and len(self.cycle.body) > HIGH_WATER_LIMIT)
        if self._in_head or (
            self.timeout_keep_alive_task is None and not self._answering and not self._is_turn_scheduled
        ):
            if self._timer is None:
                self._start_timer()
        elif self._timer is not None:
            self._stop_timer()

    def _parse_messages(self) -> None:
        """Feed the received bytes to the parser in bounded pieces. Raises `ApiError` and `httptools.HttpParserError`."""
        data, size = self._data, len(self._data)
        while (start := self._position) < size:
            in_body = self._in_message
            has_length = in_body and not self._body.is_chunked
            if in_body:
                end = self._body.advance(data, start, size)
            elif self._answering or self._is_turn_scheduled:
                return
            else:
                end = self._end_of_head(data, size)
                if end < 0:
                    return
                start = self._position
            self._position = end
            if has_length:
                self._take_body(data if end - start == size else data[start:end])
            else:
                self._feed(data if end - start == size else memoryview(data)[start:end])
            if self.transport.is_closing():
                return
            if in_body and self._in_message and end < size:  # `advance` stopped after many small chunks
                self._schedule_turn()
                return

    def _feed(self, piece: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # No upgrade is supported. llhttp ends such a message after its head and would parse the body as the next request. So a new
            # parser parses the head again without the `Upgrade` field, and continues with the body.
            head = self._head_without_upgrade()
            self._framing = []
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(head)
        if self._in_message and self._body.is_complete:
            raise ApiError(400, "The body of the request is malformed")

    def _take_body(self, piece: bytes) -> None:
        """A piece of a body with a length. The parser would only copy it."""
        self.on_body(piece)
        if self._body.is_complete:
            self._end_body()

    def _end_body(self) -> None:
        self.parser = httptools.HttpRequestParser(self)  # the former one still waits for the body
        self.on_message_complete()

    def _on_body_read(self) -> None:
        """The request cycle has read the end of the body."""
        self._end_body()
        self.flow.resume_reading()

    def _end_of_head(self, data: bytes, size: int) -> int:
        """The offset at which the head at `_position` ends; -1 if the head is not complete. Skips blank lines before the head."""
        if data[self._position] == _CARRIAGE_RETURN and (blank := _BLANK_LINES.match(data, self._position)):
            self._blank_bytes += blank.end() - self._position
            self._position = blank.end()
            if self._blank_bytes > MAX_HEAD_BYTES:
                raise _head_too_large()
            if self._position == size:
                self._in_head = False
                return -1
        self._method = b""
        start = self._position
        end = data.find(_END_OF_HEAD, max(start, self._searched)) + len(_END_OF_HEAD)
        complete = end >= len(_END_OF_HEAD)
        if (end if complete else size) - start > MAX_HEAD_BYTES:
            raise _head_too_large()
        if complete:
            self._in_head = False
            self._searched = 0
            self._framing = []
            self._method, self._is_http_1_1 = parse_request_line(data, start)
            return end
        if start:
            self._data, self._position = data[start:], 0
        if not is_possible_head(self._data):
            raise ApiError(400, "This is no HTTP request")
        self._in_head = True
        self._searched = max(0, size - start - len(_END_OF_HEAD) + 1)
        return -1

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"%b %b HTTP/1.%d\r\n%b\r\n" % (self._method, self.url, self._is_http_1_1, b"".join(lines))

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        if name in _FRAMING:
            self._framing.append((name, value.strip()))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # `_feed` parses the head again, without `Upgrade`
        self._in_message = True
        self._blank_bytes = 0
        try:
            self._check_fields()
            if self._trusted or self._admission is not ConnectionAdmission.ADMITTED:
                self._admit()
        except ApiError as refusal:
            self._refusal = refusal
            raise
        keep_alive = (
            self._is_http_1_1 and self.parser.should_keep_alive() and self._admission is ConnectionAdmission.ADMITTED
        )
        if keep_alive and self._application is not None and self._try_answer_from_memory(self._application):
            self._remember_head()
        else:
            self._start_cycle(keep_alive=keep_alive)
        self.headers = []  # the scope has them; fields that follow are trailers, which are not header fields

    def _try_answer_from_memory(self, application: ApiApplication) -> bool:
        if not self._write_answer_from_memory(application):
            return False
        self.cycle = None  # pyright: ignore[reportAttributeAccessIssue]
        self.on_response_complete()
        return True

    def _write_answer_from_memory(self, application: ApiApplication) -> bool:
        # uvicorn's flow control handles a client that reads slowly.
        if self.flow.write_paused or self.transport.is_closing() or self._registry.is_draining:
            return False
        if self.expect_100_continue or self._body.may_exceed(
            MAX_IGNORED_BODY_BYTES
        ):  # the response may need `Connection: close`
            return False
        metrics = application.metrics
        began = time.perf_counter() if metrics is not None else 0.0
        answer = application.answer_from_memory(self.scope)  # pyright: ignore[reportArgumentType]
        if answer is None:
            return False
        head, body = answer
        lines = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        self.transport.writelines((b"%b%b\r\n" % (head, lines), body))
        if metrics is not None:
            metrics.record_memory_answer(self.scope["path"], head, time.perf_counter() - began)
        return True

    def _remember_head(self) -> None:
        """The request that was just answered from memory may be repeated for another asset or range."""
        if (
            self._unused_heads < MAX_UNUSED_HEADS
            and self._position == len(self._data)
            and not self._trusted
            and len(self._framing) == 1
            and self._framing[0] == self._known_host_field
        ):
            self._unused_heads += 1
            self._repeated_head = RepeatedHead.remember(self._data, self.headers)
            self._repeated_scope = dict(self.scope)

    def _answer_repeated(self, repeated: RepeatedHead, data: bytes) -> bool:
        """Answer the request without parsing its fields, if it is a repeated one and its answer is in memory."""
        if (
            self.timeout_keep_alive_task is None
            or not self.is_idle
            or self._client_sent_eof
            or self._application is None
        ):
            return False
        request = repeated.match(data)
        if request is None:
            return False
        scope = self._repeated_scope
        scope["path"], scope["query_string"], scope["headers"] = request
        self.scope = scope  # pyright: ignore[reportIncompatibleVariableOverride, reportAttributeAccessIssue]
        if not self._write_answer_from_memory(self._application):
            return False
        self._unused_heads = 0
        self.server_state.total_requests += 1
        self._registry.mark_busy(self.transport)
        self._keep_alive_until = self._mark_idle() + self.timeout_keep_alive  # the timer of the request before goes on
        return True

    def timeout_keep_alive_handler(self) -> None:
        seconds_left = self._keep_alive_until - self.loop.time()
        if seconds_left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(seconds_left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _start_cycle(self, *, keep_alive: bool) -> None:
        self.cycle = UvicornRequestCycle(  # pyright: ignore[reportIncompatibleVariableOverride]
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=Signal(),  # pyright: ignore[reportArgumentType]
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
            request_body=self._body,
            is_draining=lambda: self._registry.is_draining,
            file_sender=self._file_sender,
            body_reader=self._body_reader,
            on_body_read=self._on_body_read,
        )
        extensions: dict[str, object] = {DISCONNECT_SOURCE: self.cycle}
        if self._is_http_1_1:
            extensions[INTERIM_RESPONSES] = InterimResponder(self.cycle)
        if self._file_sender is not None:
            extensions[ZERO_COPY_SEND] = {}
        self.scope["extensions"] = extensions  # pyright: ignore[reportGeneralTypeIssues]
        self._start_asgi_task(self.cycle, self.app)  # pyright: ignore[reportArgumentType]

    def on_body(self, body: bytes) -> None:
        if not self._answering:
            return
        buffered = self.cycle.body
        if not buffered:
            # uvicorn would copy these bytes into its buffer, and copy the buffer once more.
            self.cycle.body = body  # pyright: ignore[reportAttributeAccessIssue]
        elif isinstance(buffered, bytearray):
            buffered += body
        else:  # many small pieces are gathered in a bytearray
            self.cycle.body = bytearray(buffered) + body
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if not self._body.is_complete:  # the parser would take the following bytes for the next request
            self._refusal = ApiError(400, "The body of the request is malformed")
            raise self._refusal
        self._in_message = False
        if self._answering:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._client_of_request is not None:
            self._end_request()
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self.cycle is not None and self.cycle.closes_connection:
            self._linger()
        elif self._position < len(self._data):
            self._schedule_turn()
        elif self._client_sent_eof:
            self.transport.close()
        else:
            if self.flow.read_paused:
                self.flow.resume_reading()
            self._mark_idle()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, msg))

    def _should_upgrade(self) -> bool:
        return False

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _in_body(self) -> bool:
        """The body of the current request is still arriving, and its response has not started."""
        return self._answering and self.cycle.more_body and not self.cycle.response_started

    def _check_fields(self) -> None:
        """Fill in the ASGI scope. Raises `ApiError` if the head violates RFC 9110 or RFC 9112."""
        framing = self._framing
        if (
            len(framing) == 1 and framing[0] == self._known_host_field
        ):  # checked for an earlier request of this connection
            self._body.begin(0)
        else:
            self._check_framing(framing)
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope = self.scope
        scope["method"] = self._method.decode("ascii")
        if not self._is_http_1_1:
            scope["http_version"] = "1.0"
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = url.query or b""

    def _check_framing(self, framing: list[tuple[bytes, bytes]]) -> None:
        hosts = [value for name, value in framing if name == b"host"]
        if len(hosts) > 1 or (not hosts and self._is_http_1_1):
            raise ApiError(400, "The request must have one Host")
        if hosts and not is_valid_host(hosts[0]):
            raise ApiError(400, "The Host of the request is malformed")
        self._body.begin(parse_body_length(framing, is_http_1_1=self._is_http_1_1))
        self.expect_100_continue = self._is_http_1_1 and any(  # RFC 9110 section 10.1.1
            name == b"expect" and value.lower() == b"100-continue" for name, value in framing
        )
        if hosts and len(framing) == 1:
            self._known_host_field = framing[0]

    def _admit(self) -> None:
        """Raises `ApiError` 503 if the connection, or the client behind a trusted proxy, is over its limit."""
        is_health = self.scope["path"] in HEALTH_PATHS
        if self._admission is ConnectionAdmission.HEALTH_ONLY:
            if self._registry.admit_waiting(self._address, self.transport, trusted=self._trusted):
                self._admission = ConnectionAdmission.ADMITTED
            elif not is_health:
                raise self._build_full_error(forwards=any(name in _FORWARDED for name, _ in self.headers))
        if self._trusted:
            client = self._registry.trusted_proxies.find_client(self._address, self.headers)
            self.scope["client"] = (client.address, 0)
            self.scope[FROM_TRUSTED_PROXY] = True  # pyright: ignore[reportGeneralTypeIssues]
            if client.scheme is not None:
                self.scope["scheme"] = client.scheme  # pyright: ignore[reportGeneralTypeIssues]
            if is_health:
                return
            if not self._registry.begin_request(client.address):
                raise ApiError(503, self._registry.busy_rejection_reason(client.address), headers={"retry-after": "5"})
            self._client_of_request = client.address

    def _build_full_error(self, *, forwards: bool = False) -> ApiError:
        reason = self._registry.rejection_reason(self._address, trusted=self._trusted, sends_forwarded_for=forwards)
        return ApiError(503, reason or "Too many connections, try later", headers={"retry-after": "5"})

    def _on_evicted(self) -> None:
        """The registry replaced this `HEALTH_ONLY` connection by a newer one."""
        if not self._lingering:
            self._refuse(self._build_full_error())

    def _on_closed_for_another(self) -> None:
        """The registry gives the place of this idle connection to one with a request (RFC 9112 section 9.5)."""
        self._admission = ConnectionAdmission.REFUSED
        self.transport.close()

    def _end_request(self) -> None:
        if self._client_of_request is not None:
            self._registry.end_request(self._client_of_request)
            self._client_of_request = None

    def _schedule_turn(self) -> None:
        """Continue to parse after other connections have had their turn."""
        if not self._is_turn_scheduled:
            self._is_turn_scheduled = True
            self._registry.enqueue_request(self._on_turn)

    def _on_turn(self) -> None:
        self._is_turn_scheduled = False
        if self._lingering or self.transport.is_closing():
            return
        self._parse()
        if self._client_sent_eof and not self._lingering and not self._continues_after_eof():
            self.transport.close()

    def _continues_after_eof(self) -> bool:
        if self._is_turn_scheduled:
            return True
        if self._in_body:
            self._refuse(ApiError(400, "The body ended before it was complete"))
            return True
        return self._answering and not self._in_message

    def _on_head_timeout(self) -> None:
        self._timer = None
        if self._answering or self._is_turn_scheduled:
            return
        if self._admission is ConnectionAdmission.HEALTH_ONLY:
            self._refuse(self._build_full_error())
        elif self._in_head:
            self._refuse(ApiError(408, "The request did not arrive in time"))
        else:
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Send the error and linger, so that a client that is still sending can read the response before a TCP reset."""
        self._stop_timer()
        self._unset_keepalive_if_required()
        correlation_id = generate_correlation_id()
        self._registry.refusal_log.log_refusal(
            "request refused", self._address, error.status, error.message, correlation_id
        )
        in_body = self._in_body
        if in_body:  # the error is this request's response; the handler that reads the body sees a disconnect
            self.cycle.waiting_for_100_continue = False
            self.cycle.disconnect()
        elif (
            self._answering or self.transport.is_closing()
        ):  # inside another response the client would take the error for its bytes
            self._lingering = True
            self.transport.close()
            return
        headers, body = build_problem_response(error, correlation_id)
        headers += [(b"x-correlation-id", correlation_id.encode()), (b"connection", b"close")]
        if self._application is not None and self._application.metrics is not None and not in_body:
            self._application.metrics.record_refusal(self._method.decode("ascii"), error.status)
        lines = [b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *headers)]
        self.transport.writelines(
            [STATUS_LINE[error.status], *lines, b"\r\n", b"" if self._method == b"HEAD" else body]
        )
        self._linger()

    def _linger(self) -> None:
        """Lingering close (RFC 9112 section 9.6): close the sending side, and read until the client closes or is silent.

        Unread bytes at the close cause a TCP reset, which can discard a response that the client has not read yet.
        """
        self._lingering = True
        self._stop_timer()
        self._data = b""
        self._position = 0
        self._last_received_at = self.loop.time()
        self._linger_deadline = self._last_received_at + LINGER_SECONDS
        if self._client_sent_eof or not self._can_linger():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.release_reading(is_body_buffered=False)
        self._timer = self.loop.call_later(LINGER_IDLE_SECONDS, self._close_when_silent)

    def _can_linger(self) -> bool:
        if self._admission is ConnectionAdmission.HEALTH_ONLY:
            self._admission = ConnectionAdmission.REFUSED
            return self._registry.start_lingering(self._address, self.transport)
        return True

    def _close_when_silent(self) -> None:
        now = self.loop.time()
        silent_at = min(self._last_received_at + LINGER_IDLE_SECONDS, self._linger_deadline)
        if now >= silent_at:
            self.transport.close()
        else:
            self._timer = self.loop.call_later(silent_at - now, self._close_when_silent)

    def _start_timer(self) -> None:
        seconds = (
            self.head_timeout_seconds
            if self._admission is ConnectionAdmission.ADMITTED
            else HEALTH_ONLY_HEAD_TIMEOUT_SECONDS
        )
        self._timer = self.loop.call_later(seconds, self._on_head_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _head_too_large() -> ApiError:
    return ApiError(431, f"The request's head is larger than {MAX_HEAD_BYTES} bytes")
