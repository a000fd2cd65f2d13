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
    try:
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
    finally:
        rate_meter.close()
    if content_length is not None and total < content_length:
        raise IncompleteBody


class _ReceiveRateMeter:
    """Measures the client's rate over the time spent waiting for it."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._idle_timer = _IdleTimer(limits.idle_seconds)
        self._waited = 0.0
        self._bytes = 0

    def close(self) -> None:
        self._idle_timer.close()

    async def next_message(self, receive: Receive) -> MutableMapping[str, Any]:
        started = time.monotonic()
        try:
            message = await self._idle_timer.wait_for(receive)
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


class _IdleTimer:
    """Limits the time of each of many short waits. It is one timer for all of them: `asyncio.timeout`, which sets one for each wait, takes
    longer than the rest of a message's way."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: asyncio.Task[Any] | None = None
        self._since = 0.0
        self._has_expired = False
        self._timer: asyncio.TimerHandle | None = None

    async def wait_for(self, receive: Receive) -> MutableMapping[str, Any]:
        """The next message. Raises `TimeoutError` after the time."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is None:
            raise RuntimeError("no task waits")
        self._since, self._waiting = loop.time(), task
        if self._timer is None:
            self._timer = loop.call_at(self._since + self._seconds, self._check, loop)
        former_cancellations = task.cancelling()
        try:
            return await receive()
        except asyncio.CancelledError:
            if self._has_expired and task.uncancel() <= former_cancellations:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._waiting is None:
            return  # the next wait sets the timer again
        due = self._since + self._seconds
        if loop.time() < due:
            self._timer = loop.call_at(due, self._check, loop)
        else:
            self._has_expired = True
            self._waiting.cancel()
