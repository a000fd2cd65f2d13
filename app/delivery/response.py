"""Answers GET and HEAD with the bytes of a `ByteSource`: 200, 206 with one or several ranges, 304, or an exception for 412 and 416.

Knows neither storage nor routes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from email.utils import formatdate
from functools import partial
from math import floor
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from app.delivery.byteranges import ByterangesLayout, lay_out_byteranges
from app.delivery.conditions import (
    NO_CONDITIONAL_FIELDS,
    ConditionResult,
    evaluate_conditions,
    is_range_applicable,
    parse_conditional_fields,
)
from app.delivery.disconnects import CancelOnDisconnect, find_disconnect_source
from app.delivery.disposition import content_disposition
from app.delivery.errors import PreconditionFailed, RawHeaders, TransferAborted, UnsatisfiableRange
from app.delivery.offload import OffloadablePart, select_offloadable_part
from app.delivery.range_header import RangeResult, parse_range_header
from app.formats import can_run_scripts
from app.storage.backend import CHUNK_BYTES
from app.storage.errors import ObjectChanged
from app.storage.ranges import ByteRange, ByteSource, FileWindow

_SANDBOX = b"default-src 'none'; sandbox"
# For video and audio: in a sandboxed document Chromium does not play media.
_MEDIA = b"default-src 'none'; media-src 'self'; style-src 'unsafe-inline'"

TakeTurn = Callable[[], Awaitable[None]]
"""Awaited between chunks: returns when the next one may be handled, in a later pass of the event loop."""

ZERO_COPY_SEND = "http.response.zerocopysend"
"""An extension of ASGI. Where the scope has it, the server takes parts of files in place of bytes, see `app.api.http.responses.file_sender`."""

HoldSlot = Callable[[], AbstractContextManager[TakeTurn]]
"""Counts the block as a transfer, or raises."""


async def _wait_for_next_pass() -> None:
    await asyncio.sleep(0)


_NO_LIMIT = partial(nullcontext[TakeTurn], _wait_for_next_pass)

NO_CACHE = "private, no-cache"
IMMUTABLE = "private, max-age=31536000, immutable"
"""For URLs that contain a version."""


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
    """Answer a GET or HEAD with `source`; builds a `Representation` for this one request, see `Representation.deliver`."""
    representation = Representation(source, attachment=attachment, cache_control=cache_control)
    await representation.deliver(scope, receive, send, extra_headers)


class FrontServerHead(NamedTuple):
    """The encoded head of the last answer that left the body to a front server, and what it was built from."""

    location: RawHeaders
    with_accept_ranges: bool
    encoded: bytes


class Representation:
    """A source with the header fields that all its responses share, built once.

    Has no state of a request: it may be cached and used by concurrent requests.
    """

    __slots__ = (
        "_accepts_ranges", "_check_readable", "_common_headers", "_content_type", "_encoded_headers", "_etag", "_full_headers",
        "_last_modified", "_not_modified_headers", "_size", "_validator_headers", "front_server_head", "source",
    )  # fmt: skip

    def __init__(
        self,
        source: ByteSource,
        *,
        attachment: bool,
        cache_control: str,
        check_readable: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`check_readable` is awaited before a response that does not read the source (HEAD, 304); it raises the exceptions that a read of
        the whole source would raise."""
        self.source = source
        self._check_readable = check_readable
        self._size = source.size
        self._etag = source.etag
        self._last_modified = floor(source.last_modified.timestamp())
        self._accepts_ranges = source.accepts_ranges
        self._content_type = source.content_type.encode("latin-1")
        # For errors too, so without Cache-Control: an error must not be cached for as long as the file.
        self._validator_headers: RawHeaders = (
            (b"etag", self._etag.encode("latin-1")),
            (b"last-modified", formatdate(self._last_modified, usegmt=True).encode("ascii")),
            (b"accept-ranges", b"bytes" if self._accepts_ranges else b"none"),
        )
        self._not_modified_headers: RawHeaders = (
            *self._validator_headers,
            (b"cache-control", cache_control.encode("latin-1")),
        )
        is_media = source.content_type.startswith(("video/", "audio/"))
        attached = attachment or can_run_scripts(source.content_type)
        self._common_headers: RawHeaders = (
            *self._not_modified_headers,
            (b"content-disposition", content_disposition(source.filename, attachment=attached)),
            (b"x-content-type-options", b"nosniff"),
            (b"content-security-policy", _MEDIA if is_media else _SANDBOX),
        )
        self._encoded_headers: bytes | None = None
        self.front_server_head: FrontServerHead | None = None
        self._full_headers: RawHeaders = (
            *self._common_headers,
            (b"content-type", self._content_type),
            (b"content-length", b"%d" % self._size),
        )

    async def deliver(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        extra_headers: RawHeaders = (),
        hold_slot: HoldSlot = _NO_LIMIT,
    ) -> None:
        """Send one complete response, or return when the client disconnects.

        `hold_slot` is entered while more than one chunk is sent: a response of one chunk leaves at once. Its exceptions are raised too.
        Raises `PreconditionFailed`, `UnsatisfiableRange` and the source's own exceptions before anything is sent, and
        `TransferAborted` afterwards.
        """
        fields = parse_conditional_fields(scope["headers"])
        selection = RangeResult.WHOLE
        is_head = scope["method"] == "HEAD"
        if fields is not NO_CONDITIONAL_FIELDS:
            result = evaluate_conditions(fields, self._etag, self._last_modified)
            if result is ConditionResult.FAILED:
                raise PreconditionFailed(self._validator_headers)
            if result is ConditionResult.NOT_MODIFIED:
                await self._run_readable_check()
                await _send_head(send, 304, (*self._not_modified_headers, *extra_headers))
                return
            if self._accepts_ranges and not is_head and is_range_applicable(fields, self._etag, self._last_modified):
                selection = parse_range_header(fields.range, self._size)
        if is_head:
            await self._run_readable_check()
            await _send_head(send, 200, (*self._full_headers, *extra_headers))
        elif selection is RangeResult.WHOLE:
            sender = _ResponseSender(scope, send, 200, (*self._full_headers, *extra_headers), self._size)
            await self._send_single(scope, receive, sender, None, hold_slot)
        elif selection is RangeResult.UNSATISFIABLE:
            raise UnsatisfiableRange(self._size, self._validator_headers)
        elif len(selection) == 1:
            sender = self._build_partial_sender(scope, send, selection[0], extra_headers)
            await self._send_single(scope, receive, sender, selection[0], hold_slot)
        else:
            layout = lay_out_byteranges(selection, self._size, self._content_type)
            with hold_slot() as take_turn:
                await self._send_multipart(scope, receive, send, layout, extra_headers, take_turn)

    def answer_from_memory(
        self, headers: RawHeaders, read_from_memory: Callable[[ByteRange], bytes | None]
    ) -> tuple[bytes, bytes] | None:
        """Head lines and body of the response that `deliver` would send to a GET with these header fields, if the body is at most one
        chunk and `read_from_memory` returns it. Otherwise None, and `deliver` must answer."""
        fields = parse_conditional_fields(headers)
        selection = RangeResult.WHOLE
        if fields is not NO_CONDITIONAL_FIELDS:
            if evaluate_conditions(fields, self._etag, self._last_modified) is not ConditionResult.PROCEED:
                return None
            if self._accepts_ranges and is_range_applicable(fields, self._etag, self._last_modified):
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
        return None if body is None else (self._encode_head(status, part.first, len(body)), body)

    def select_offloadable_part(self, headers: RawHeaders) -> OffloadablePart | None:
        """See `app.delivery.offload.select_offloadable_part`."""
        return (
            select_offloadable_part(parse_conditional_fields(headers), self._size, self._etag)
            if self._accepts_ranges
            else None
        )

    @property
    def offload_headers(self) -> RawHeaders:
        """The fields of an answer whose body a front server sends, and whose length and range it tells itself."""
        return (*self._common_headers, (b"content-type", self._content_type))

    async def _run_readable_check(self) -> None:
        if self._check_readable is not None:
            await self._check_readable()

    def _encode_head(self, status: int, first: int, length: int) -> bytes:
        if self._encoded_headers is None:
            self._encoded_headers = encode_header_lines((*self._common_headers, (b"content-type", self._content_type)))
        if status == 200:
            return b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n" % (self._encoded_headers, length)
        return b"HTTP/1.1 206 Partial Content\r\n%bcontent-length: %d\r\ncontent-range: bytes %d-%d/%d\r\n" % (
            self._encoded_headers, length, first, first + length - 1, self._size,
        )  # fmt: skip

    def _build_partial_sender(
        self, scope: Scope, send: Send, part: ByteRange, extra_headers: RawHeaders
    ) -> _ResponseSender:
        length = part.length
        headers = (
            *self._common_headers,
            (b"content-type", self._content_type),
            (b"content-length", b"%d" % length),
            (b"content-range", b"bytes %d-%d/%d" % (part.first, part.first + length - 1, self._size)),
            *extra_headers,
        )
        return _ResponseSender(scope, send, 206, headers, length)

    async def _send_single(
        self, scope: Scope, receive: Receive, sender: _ResponseSender, part: ByteRange | None, hold_slot: HoldSlot
    ) -> None:
        # Cancelling a response of one chunk saves nothing, so no task listens for a disconnect.
        if sender.length <= CHUNK_BYTES:
            await self._send_source(sender, part)
            return
        with hold_slot() as sender.take_turn:
            async with CancelOnDisconnect(receive, find_disconnect_source(scope)) as connection:
                sender.connection = connection
                await self._send_source(sender, part)

    async def _send_source(self, sender: _ResponseSender, part: ByteRange | None) -> None:
        try:
            async with self._open_source(sender, part) as chunks:
                await self._relay(chunks, sender, sender.length)
            if not sender.length:
                await sender.send_body(b"")
        except Exception as error:
            self._raise_aborted(sender, error)
            raise

    async def _send_multipart(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        layout: ByterangesLayout,
        extra_headers: RawHeaders,
        take_turn: TakeTurn,
    ) -> None:
        headers = (
            *self._common_headers,
            (b"content-type", layout.content_type),
            (b"content-length", b"%d" % layout.length),
            *extra_headers,
        )
        sender = _ResponseSender(scope, send, 206, headers, layout.length)
        sender.take_turn = take_turn
        async with CancelOnDisconnect(receive, find_disconnect_source(scope)) as connection:
            sender.connection = connection
            try:
                for head, part in layout.parts:
                    async with self._open_source(sender, part) as chunks:
                        await self._relay(chunks, sender, part.length, head)
                await sender.send_body(layout.closing_boundary)
            except Exception as error:
                self._raise_aborted(sender, error)
                raise

    def _open_source(
        self, sender: _ResponseSender, part: ByteRange | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes | FileWindow]]:
        # A window of less than a chunk would cost more than its copy.
        if sender.takes_windows and (self._size if part is None else part.length) > CHUNK_BYTES:
            return self.source.read_windows(part)
        return self.source.read(part)

    async def _relay(
        self, chunks: AsyncIterator[bytes | FileWindow], sender: _ResponseSender, length: int, head: bytes = b""
    ) -> None:
        """Send `head` and the chunks. Raises `ObjectChanged` if the chunks are not `length` bytes in all.

        Sends the last chunk only after the source has ended, because some sources detect a change only at their end. A window is of a file
        that never changes, and may not be used after the source has ended.
        """
        left = length
        async for chunk in chunks:
            left -= len(chunk)
            if isinstance(chunk, FileWindow):
                if left < 0:
                    break
                if head:
                    await sender.send_body(head)
                await sender.send_window(chunk)
            else:
                if left <= 0:
                    async for more in chunks:
                        left -= len(more)
                        break
                    if left < 0:
                        break
                await sender.send_body(head + chunk if head else chunk)
            head = b""
            if not left:
                return
        if left:
            raise ObjectChanged(self.source.filename, "delivery", f"is not {length} bytes any more")

    def _raise_aborted(self, sender: _ResponseSender, error: Exception) -> None:
        if sender.started:
            raise TransferAborted(self.source.filename, sender.sent, sender.length) from error


class _ResponseSender:
    """Sends a body of known length and counts its bytes. Sends the head with the first bytes, so that a source that fails before them
    can still get an error status."""

    __slots__ = (
        "_headers", "_send", "_status", "connection", "length", "sent", "started", "take_turn", "takes_windows",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send, status: int, headers: RawHeaders, length: int) -> None:
        self._send = send
        self._status = status
        self._headers = headers
        self.length = length
        self.sent = 0
        self.started = False
        self.connection: CancelOnDisconnect | None = None
        self.take_turn: TakeTurn = _wait_for_next_pass
        self.takes_windows = ZERO_COPY_SEND in (scope.get("extensions") or ())

    async def send_body(self, data: bytes) -> None:
        """Send `data`. Returns when all but the socket buffer's share has been written (back-pressure), so that a stalled client holds no
        second chunk in memory."""
        more = await self._begin_piece(len(data))
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        if more:
            await self._send({"type": "http.response.body", "body": b"", "more_body": True})
            # Neither a write to a closed connection nor a read from the page cache waits. Yield to the event loop, so that the task that
            # listens for the disconnect (and all others) can run.
            await self.take_turn()

    async def send_window(self, window: FileWindow) -> None:
        """Send a part of a file. Returns when the kernel has all of it."""
        more = await self._begin_piece(window.length)
        await self._send(
            {
                "type": ZERO_COPY_SEND,
                "file": window.file,
                "offset": window.offset,
                "count": window.length,
                "more_body": more,
            }
        )
        if more:
            await self.take_turn()

    async def _begin_piece(self, size: int) -> bool:
        """Whether more pieces follow this one of `size` bytes."""
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        self.sent += size
        more = self.sent < self.length
        if not more and self.connection is not None:
            self.connection.complete = True
        return more


_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def encode_header_lines(headers: RawHeaders) -> bytes:
    """The fields as bytes for the connection. Raises `ValueError` for a control character, which could inject a header line."""
    if any(_CONTROL_CHARACTERS.search(name + value) for name, value in headers):
        raise ValueError("a control character in a header field")
    return b"".join([b"%b: %b\r\n" % header for header in headers])


async def _send_head(send: Send, status: int, headers: RawHeaders) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
