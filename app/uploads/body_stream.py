"""Streams a request's body from ASGI, and enforces the limits that the server does not: idle time, rate, size, completeness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from app.uploads.errors import ClientDisconnected, IncompleteBody, UploadTooLarge, UploadTooSlow

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

RATE_WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """`size` in bytes, `minimum_rate` in bytes per second over `rate_window` seconds spent waiting for the client."""

    size: int
    idle_seconds: float
    minimum_rate: int
    rate_window: float = RATE_WINDOW_SECONDS


async def stream_body(receive: Receive, content_length: int | None, limits: BodyLimits) -> AsyncGenerator[bytes, None]:
    """Yields the body's non-empty chunks, each received only when the caller asks for it (back-pressure).

    Only time spent waiting for the client counts against the limits, not the time that storing takes. Raises `UploadTooLarge` (before the
    first byte where `content_length` exceeds the limit), `UploadTooSlow`, `ClientDisconnected` and `IncompleteBody`.
    """
    if content_length is not None and content_length > limits.size:
        raise UploadTooLarge(limits.size)
    rate_meter = _ReceiveRateMeter(limits)
    total = 0
    more = True
    while more:
        message = await rate_meter.next_message(receive)
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        total += len(chunk)
        if total > limits.size:
            raise UploadTooLarge(limits.size)
        rate_meter.count(len(chunk))
        if chunk:
            yield chunk
    if content_length is not None and total < content_length:
        raise IncompleteBody


class _ReceiveRateMeter:
    """Measures the client's rate over the time spent waiting for it."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._waited = 0.0
        self._bytes = 0

    async def next_message(self, receive: Receive) -> MutableMapping[str, Any]:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                message = await receive()
        except TimeoutError:
            raise UploadTooSlow(f"Nothing arrived for {self._limits.idle_seconds:g} seconds") from None
        self._waited += time.monotonic() - started
        return message

    def count(self, size: int) -> None:
        self._bytes += size
        if self._waited < self._limits.rate_window:
            return
        if self._bytes < self._limits.minimum_rate * self._waited:
            raise UploadTooSlow(f"Less than {self._limits.minimum_rate} bytes per second arrived")
        self._waited = 0.0
        self._bytes = 0
