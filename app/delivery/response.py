"""The one answer to every GET and HEAD of bytes: whole, by range, by several ranges, 304, or a typed refusal.

Takes any `ByteSource`; knows neither storage nor routes. DESIGN section 7 is its contract.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from math import floor

from starlette.types import Receive, Scope, Send

from app.delivery.byteranges import ByterangesLayout, lay_out_byteranges
from app.delivery.conditions import (
    NO_CONDITIONAL_FIELDS,
    ConditionResult,
    evaluate_conditions,
    is_range_applicable,
    parse_conditional_fields,
)
from app.delivery.disconnects import CancelOnDisconnect
from app.delivery.disposition import content_disposition
from app.delivery.errors import PreconditionFailed, RawHeaders, TransferAborted, UnsatisfiableRange
from app.delivery.range_header import RangeResult, parse_range_header
from app.formats import can_run_scripts
from app.storage.backend import CHUNK_BYTES
from app.storage.errors import ObjectChanged
from app.storage.ranges import ByteRange, ByteSource

_SANDBOX = b"default-src 'none'; sandbox"
# A sandbox keeps Chromium from playing what it opens.
_MEDIA = b"default-src 'none'; media-src 'self'; style-src 'unsafe-inline'"

NO_CACHE = "private, no-cache"
IMMUTABLE = "private, max-age=31536000, immutable"
"""With the version in the URL."""


async def deliver_source(
    source: ByteSource,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    attachment: bool,
    cache_control: str,
    extra_headers: RawHeaders = (),
) -> None:
    """Answer a GET or HEAD with `source`; see `Representation.deliver`, which saves what this does anew for each request."""
    representation = Representation(source, attachment=attachment, cache_control=cache_control)
    await representation.deliver(scope, receive, send, extra_headers)


class Representation:
    """A source with the header fields that all its answers share, made up once.

    Holds no state of a request: it may be kept, and used by many requests at a time.
    """

    __slots__ = (
        "_content_type", "_etag", "_last_modified", "_lines", "_partial", "_ranged", "_require_readable", "_size", "_unmodified",
        "_validators", "_whole", "source",
    )  # fmt: skip

    def __init__(
        self,
        source: ByteSource,
        *,
        attachment: bool,
        cache_control: str,
        check_readable: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`check_readable` is awaited before an answer that describes the source without reading it (HEAD, 304), and raises what a read
        of the whole would."""
        self.source = source
        self._require_readable = check_readable
        self._size = source.size
        self._etag = source.etag
        self._last_modified = floor(source.last_modified.timestamp())
        self._ranged = source.accepts_ranges
        self._content_type = source.content_type.encode("latin-1")
        # Without Cache-Control: a refusal must not be kept for as long as the file.
        self._validators: RawHeaders = (
            (b"etag", self._etag.encode("latin-1")),
            (b"last-modified", formatdate(self._last_modified, usegmt=True).encode("ascii")),
            (b"accept-ranges", b"bytes" if self._ranged else b"none"),
        )
        self._unmodified: RawHeaders = (*self._validators, (b"cache-control", cache_control.encode("latin-1")))
        is_media = source.content_type.startswith(("video/", "audio/"))
        attached = attachment or can_run_scripts(source.content_type)
        self._partial: RawHeaders = (
            *self._unmodified,
            (b"content-disposition", content_disposition(source.filename, attachment=attached)),
            (b"x-content-type-options", b"nosniff"),
            (b"content-security-policy", _MEDIA if is_media else _SANDBOX),
        )
        self._lines: bytes | None = None
        self._whole: RawHeaders = (
            *self._partial,
            (b"content-type", self._content_type),
            (b"content-length", b"%d" % self._size),
        )

    async def deliver(self, scope: Scope, receive: Receive, send: Send, extra_headers: RawHeaders = ()) -> None:
        """Send one complete answer, or return when the client goes away.

        Raises `PreconditionFailed`, `UnsatisfiableRange` and the source's own errors before anything is sent, and
        `TransferAborted` afterwards.
        """
        fields = parse_conditional_fields(scope["headers"])
        selection = RangeResult.WHOLE
        is_head = scope["method"] == "HEAD"
        if fields is not NO_CONDITIONAL_FIELDS:
            verdict = evaluate_conditions(fields, self._etag, self._last_modified)
            if verdict is ConditionResult.FAILED:
                raise PreconditionFailed(self._validators)
            if verdict is ConditionResult.NOT_MODIFIED:
                await self._run_readable_check()
                await _send_head(send, 304, (*self._unmodified, *extra_headers))
                return
            if self._ranged and not is_head and is_range_applicable(fields, self._etag, self._last_modified):
                selection = parse_range_header(fields.range, self._size)
        if is_head:
            await self._run_readable_check()
            await _send_head(send, 200, (*self._whole, *extra_headers))
        elif selection is RangeResult.WHOLE:
            await self._send_one(receive, _ResponseSender(send, 200, (*self._whole, *extra_headers), self._size), None)
        elif selection is RangeResult.UNSATISFIABLE:
            raise UnsatisfiableRange(self._size, self._validators)
        elif len(selection) == 1:
            await self._send_one(receive, self._partial_answer(send, selection[0], extra_headers), selection[0])
        else:
            await self._send_several(
                receive, send, lay_out_byteranges(selection, self._size, self._content_type), extra_headers
            )

    def answer_from_memory(
        self, headers: RawHeaders, read_from_memory: Callable[[ByteRange], bytes | None]
    ) -> tuple[bytes, bytes] | None:
        """What `deliver_source` would send to a GET with these header fields, as the lines of the head and the body, if that is one
        chunk, and `read_from_memory` has it. None where not: then `deliver_source` is to answer."""
        fields = parse_conditional_fields(headers)
        selection = RangeResult.WHOLE
        if fields is not NO_CONDITIONAL_FIELDS:
            if evaluate_conditions(fields, self._etag, self._last_modified) is not ConditionResult.PROCEED:
                return None
            if self._ranged and is_range_applicable(fields, self._etag, self._last_modified):
                selection = parse_range_header(fields.range, self._size)
        if selection is RangeResult.WHOLE:
            part, status = ByteRange(0, self._size - 1) if self._size else None, 200
        elif selection is RangeResult.UNSATISFIABLE or len(selection) != 1:
            return None
        else:
            part, status = selection[0], 206
        if part is None or part.length > CHUNK_BYTES:
            return None
        body = read_from_memory(part)
        return None if body is None else (self._head_lines(status, part.first, len(body)), body)

    async def _run_readable_check(self) -> None:
        if self._require_readable is not None:
            await self._require_readable()

    def _head_lines(self, status: int, first: int, length: int) -> bytes:
        if self._lines is None:
            self._lines = encode_header_lines((*self._partial, (b"content-type", self._content_type)))
        if status == 200:
            return b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n" % (self._lines, length)
        return b"HTTP/1.1 206 Partial Content\r\n%bcontent-length: %d\r\ncontent-range: bytes %d-%d/%d\r\n" % (
            self._lines, length, first, first + length - 1, self._size,
        )  # fmt: skip

    def _partial_answer(self, send: Send, part: ByteRange, extra_headers: RawHeaders) -> _ResponseSender:
        length = part.length
        headers = (
            *self._partial,
            (b"content-type", self._content_type),
            (b"content-length", b"%d" % length),
            (b"content-range", b"bytes %d-%d/%d" % (part.first, part.first + length - 1, self._size)),
            *extra_headers,
        )
        return _ResponseSender(send, 206, headers, length)

    async def _send_one(self, receive: Receive, answer: _ResponseSender, part: ByteRange | None) -> None:
        # Nothing is saved by leaving early what is one chunk, so no task listens for that.
        if answer.length <= CHUNK_BYTES:
            await self._copy(answer, part)
            return
        async with CancelOnDisconnect(receive) as connection:
            answer.connection = connection
            await self._copy(answer, part)

    async def _copy(self, answer: _ResponseSender, part: ByteRange | None) -> None:
        try:
            async with self.source.read(part) as chunks:
                await self._relay(chunks, answer, answer.length)
            if not answer.length:
                await answer.send_body(b"")
        except Exception as error:
            self._raise_aborted(answer, error)
            raise

    async def _send_several(
        self, receive: Receive, send: Send, frame: ByterangesLayout, extra_headers: RawHeaders
    ) -> None:
        headers = (
            *self._partial,
            (b"content-type", frame.content_type),
            (b"content-length", b"%d" % frame.length),
            *extra_headers,
        )
        answer = _ResponseSender(send, 206, headers, frame.length)
        async with CancelOnDisconnect(receive) as connection:
            answer.connection = connection
            try:
                for head, part in frame.parts:
                    async with self.source.read(part) as chunks:
                        await self._relay(chunks, answer, part.length, head)
                await answer.send_body(frame.closing_boundary)
            except Exception as error:
                self._raise_aborted(answer, error)
                raise

    async def _relay(
        self, chunks: AsyncIterator[bytes], answer: _ResponseSender, length: int, head: bytes = b""
    ) -> None:
        """Send `head` and the chunks, if they are `length` bytes together. The last chunk is held back until the source
        has ended, because some notice only then that what they read has changed."""
        left = length
        async for chunk in chunks:
            left -= len(chunk)
            if left <= 0:
                async for more in chunks:
                    left -= len(more)
                    break
                if left < 0:
                    break
            await answer.send_body(head + chunk if head else chunk)
            head = b""
            if not left:
                return
        if left:
            raise ObjectChanged(self.source.filename, "delivery", f"is not {length} bytes any more")

    def _raise_aborted(self, answer: _ResponseSender, error: Exception) -> None:
        if answer.started:
            raise TransferAborted(self.source.filename, answer.sent, answer.length) from error


class _ResponseSender:
    """Counts what is sent of a body of known length; its head goes out with the first bytes, so that a source that fails
    before them can still be answered with a status."""

    __slots__ = ("_headers", "_send", "_status", "connection", "length", "sent", "started")

    def __init__(self, send: Send, status: int, headers: RawHeaders, length: int) -> None:
        self._send = send
        self._status = status
        self._headers = headers
        self.length = length
        self.sent = 0
        self.started = False
        self.connection: CancelOnDisconnect | None = None

    async def send_body(self, data: bytes) -> None:
        """Returns when the client has taken it, but for what the socket buffers, so that a stalled one holds no second chunk."""
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        self.sent += len(data)
        if self.sent < self.length:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            await self._send({"type": "http.response.body", "body": b"", "more_body": True})
            # A server takes bytes for a client that is gone without waiting, and a file in memory is read without waiting: let others
            # run, the task that listens for the client's leaving among them.
            await asyncio.sleep(0)
            return
        if self.connection is not None:
            self.connection.complete = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})


_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def encode_header_lines(headers: RawHeaders) -> bytes:
    """As they are written to the connection. Raises `ValueError` for what would break the line."""
    if any(_CONTROL_CHARACTERS.search(name + value) for name, value in headers):
        raise ValueError("a control character in a header field")
    return b"".join([b"%b: %b\r\n" % header for header in headers])


async def _send_head(send: Send, status: int, headers: RawHeaders) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
