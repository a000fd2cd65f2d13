"""`HttpConnection`: one connection to a store, which carries one request at a time.

The head of a response is parsed by llhttp, in its strict mode, and so is a chunked body. Of a body with `Content-Length` the bytes are only
counted. A connection that has received anything that belongs to no request is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from multidict import CIMultiDict

from app.storage.s3.http.response import ConnectionEnded, HttpError, HttpResponse, ResponseParserError

MAX_HEAD_BYTES = 64 * 1024
MAX_INTERIM_RESPONSES = 32
"""Before the final one (RFC 9110 section 15.2)."""
MAX_FRAMING_BYTES = 64 * 1024
"""Of a chunked body, in one piece: sizes and extensions of chunks, and trailers, which the parser collects."""
_END_OF_HEAD = b"\r\n\r\n"
_VERSION = b"HTTP/1."
_KEPT_FIELDS = frozenset(
    {
        *(b"content-length", b"transfer-encoding", b"content-range", b"etag", b"last-modified"),
        *(b"date", b"x-amz-bucket-region"),
    }
)
"""A store sends a dozen more, which nobody reads."""
_WITHOUT_BODY = frozenset({204, 304})
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL_STATUS = 200


class HttpConnection(asyncio.Protocol):
    """`on_idle` is called when it can carry another request, `on_lost` when it is closed."""

    def __init__(
        self, on_idle: Callable[[HttpConnection], None], on_lost: Callable[[HttpConnection], None], read_seconds: float
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._read_seconds = read_seconds
        self._transport: Any = None
        self._head = b""
        self._interim_responses = 0
        self._parser: httptools.HttpResponseParser | None = None
        self._fields: list[tuple[str, str]] = []
        self._answer: asyncio.Future[HttpResponse] | None = None
        self._response: HttpResponse | None = None
        self._left: int | None = None
        """Bytes of the body that have not arrived; None where its length is not known beforehand."""
        self._is_chunked = False
        self._framing_bytes = 0
        """Of a chunked body, since the last piece of its content."""
        self._is_whole = False
        """The chunked body has ended."""
        self._is_reusable = False
        self._is_paused = False
        self._is_aborted = False
        self.has_received = False
        """Whether anything has arrived since the last request was sent."""
        self.idle_since = 0.0

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    async def send(self, request: bytes) -> HttpResponse:
        """Send a request without a body and return its response, whose body may not have arrived. Raises `HttpError`. The caller limits the
        time. After every exception the connection is closed."""
        if self.is_closing:
            raise ConnectionEnded("the connection is closed")
        self.has_received = False
        self._interim_responses = 0
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await answer
        except BaseException:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                answer.result().close()  # cancelled when it had come: the connection may carry another request by now
            else:
                self.close()
            raise

    def close(self) -> None:
        """Idempotent; what was not received is lost."""
        self._is_aborted = True
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        self._is_paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        response, self._response = self._response, None
        self._parser, self._head = None, b""  # the parser refers to this object
        if response is not None:
            # Without a length the end of the connection is that of the body; whoever knows the length finds out what is missing.
            is_end = exc is None and self._left is None and not self._is_chunked and not self._is_aborted
            response.end(None if is_end else ConnectionEnded("the connection ended before the body"))
        self._fail(ConnectionEnded("the connection ended before the response"))
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        self.has_received = True
        response = self._response
        if response is None:
            if self._answer is None or self._answer.done():
                self.close()  # nobody waits for it
                return
            try:
                self._receive_head(self._answer, data)
            except HttpError as error:
                self._fail(error)
                self.close()
        else:
            self._receive_body(response, data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser; so are the following ones."""
        name = name.lower()
        if name in _KEPT_FIELDS:
            text = value.decode("utf-8", "surrogateescape").rstrip(" \t")
            self._fields.append((name.decode("ascii"), text))

    def on_headers_complete(self) -> None:
        if self._parser is not None:
            self._is_reusable = self._parser.should_keep_alive()  # not known any more when the message is complete

    def on_body(self, body: bytes) -> None:
        if self._response is None:
            raise ResponseParserError("a body within the head")
        self._framing_bytes = 0
        self._response.feed(body)

    def on_message_complete(self) -> None:
        self._is_whole = True

    def on_message_begin(self) -> None:
        if self._is_whole:
            raise ResponseParserError("more than one response")

    def _receive_head(self, answer: asyncio.Future[HttpResponse], data: bytes) -> None:
        """Takes the final response's head, if it is complete. Raises `ResponseParserError`."""
        data = self._head + data
        while True:
            if not data.startswith(_VERSION[: len(data)]):
                raise ResponseParserError("no HTTP response")
            end = data.find(_END_OF_HEAD, 0, MAX_HEAD_BYTES) + len(_END_OF_HEAD)
            if end < len(_END_OF_HEAD):
                if len(data) > MAX_HEAD_BYTES:
                    raise ResponseParserError("the head is too long")
                self._head = data
                return
            self._head = b""
            parser = self._parse_head(data[:end])
            status = parser.get_status_code()
            data = data[end:]
            if status >= _FIRST_FINAL_STATUS:
                break
            if status == _SWITCHING_PROTOCOLS:
                raise ResponseParserError("another protocol")
            self._interim_responses += 1
            if self._interim_responses > MAX_INTERIM_RESPONSES:
                raise ResponseParserError("too many interim responses")
            if not data:
                return
        self._begin_body(answer, status, data)

    def _parse_head(self, head: bytes) -> httptools.HttpResponseParser:
        self._fields = []
        self._is_whole = False
        parser = self._parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise ResponseParserError(str(error)) from None
        return parser

    def _begin_body(self, answer: asyncio.Future[HttpResponse], status: int, data: bytes) -> None:
        headers = CIMultiDict(self._fields)
        self._fields = []
        encodings = headers.getall("Transfer-Encoding", ())
        if encodings and ",".join(encodings).lower() != "chunked":
            raise ResponseParserError("an unknown transfer encoding")
        length = int(headers["Content-Length"]) if "Content-Length" in headers else None
        self._is_chunked = bool(encodings) and status not in _WITHOUT_BODY
        self._framing_bytes = 0
        self._left = 0 if status in _WITHOUT_BODY else length
        if not self._is_chunked:
            self._parser = None
        response = HttpResponse(status, headers, length, self, self._read_seconds)
        self._response = response
        self._answer = None  # a response that is complete now makes the connection free for the next request at once
        answer.set_result(response)
        if data or self._left == 0:
            self._receive_body(response, data)

    def _receive_body(self, response: HttpResponse, data: bytes) -> None:
        if self._is_chunked:
            self._receive_chunks(response, data)
            return
        if self._left is None:
            response.feed(data)
            return
        if len(data) > self._left:
            self._is_reusable = False  # what follows belongs to no request
            data = data[: self._left]
        self._left -= len(data)
        if data:
            response.feed(data)
        if not self._left:
            self._end_response(response)

    def _receive_chunks(self, response: HttpResponse, data: bytes) -> None:
        parser = self._parser
        if parser is None or not data:
            return
        self._framing_bytes += len(data)
        problem = "too much between two pieces of the body"
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_reusable = False
            problem = str(error)
        else:
            if self._framing_bytes <= MAX_FRAMING_BYTES and not self._is_whole:
                return
        if self._is_whole:
            self._end_response(response)
        else:
            self._response = None
            response.end(ResponseParserError(problem))
            self.close()

    def _end_response(self, response: HttpResponse) -> None:
        self._response = self._parser = None
        if self._is_reusable and not self.is_closing:
            self.resume()
            self._on_idle(self)
        else:
            self.close()
        response.end()

    def _fail(self, error: HttpError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
