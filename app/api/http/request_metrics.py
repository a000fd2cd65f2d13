"""`RequestMetrics`: records each request of the public server: its duration, the time to the first byte, and the bytes of its body.

A route is known by its template, such as `/api/assets/{id}`; what matches none counts as one route, so that no client can make up label values.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.types import Receive, Scope, Send

from app.api.handlers.file_requests import ASSET_PATH_LENGTH, find_route_template
from app.api.http.request_head import KNOWN_METHODS
from app.metrics.families import (
    FIRST_BYTE,
    HTTP_ACTIVE,
    HTTP_BUCKETS,
    HTTP_DURATION,
    OTHER,
    RECEIVED_BYTES,
    UPLOADS,
)
from app.metrics.instruments import ProcessMetrics

_METHODS = frozenset(method.decode("ascii") for method in KNOWN_METHODS)
_PROTOCOLS = {"/api/assets": "form", "/api/uploads": "tus", "/api/upload": "ietf"}
"""By the first two segments of a route: the protocol whose bodies are files."""
_UPLOAD_ROUTE = "/api/assets"

ROUTED_SCOPE = "mediavault.routed_scope"
"""The key of the scope that was routed in place of the request's own."""

_STATUS_END = len(b"HTTP/1.1 20")

Handle = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestMetrics:
    """One per process."""

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._durations = metrics.histogram(HTTP_DURATION)
        self._first_bytes = metrics.histogram(FIRST_BYTE)
        self._received = metrics.counter(RECEIVED_BYTES)
        self._uploads = metrics.counter(UPLOADS)
        self._active: Counter[str] = Counter()
        self._tallies: dict[int, _MemoryAnswers] = {}
        metrics.add_gauge(HTTP_ACTIVE, self._read_active)
        metrics.add_flush(self._flush)

    async def observe(self, handle: Handle, scope: Scope, receive: Receive, send: Send) -> None:
        """Await `handle`, and record the request."""
        observed = _ObservedRequest(receive, send)
        method = known_method(scope["method"])
        self._active[method] += 1
        try:
            await handle(scope, receive if method in ("GET", "HEAD") else observed.receive, observed.send)
        finally:
            self._active[method] -= 1
            self._record(observed, scope, method)

    def record_memory_answer(self, path: str, head: bytes, seconds: float) -> None:
        """Record a GET of an asset's file that was answered from memory at once: head and body were sent together. The storage counts
        the bytes.

        Such an answer takes less time than a dozen writes to shared memory, so it is only added up here.
        """
        key = len(path) << 8 | head[_STATUS_END]  # enough to tell the routes and their two statuses apart
        try:
            tally = self._tallies[key]
        except KeyError:
            tally = self._tallies[key] = self._create_tally(path, head)
        tally.count += 1
        tally.seconds += seconds
        if seconds > HTTP_BUCKETS[0]:
            tally.slow.append(seconds)

    def record_refusal(self, method: str, status: int) -> None:
        """Record a request that the server refused before it had a route."""
        self._durations.observe(0.0, known_method(method), OTHER, str(status))

    def _create_tally(self, path: str, head: bytes) -> _MemoryAnswers:
        route = f"/api/assets/{{id}}{path[ASSET_PATH_LENGTH:]}"
        durations = self._durations.series.find(("GET", route, head[_STATUS_END - 2 : _STATUS_END + 1].decode("ascii")))
        return _MemoryAnswers((durations, self._first_bytes.series.find(("GET", route))))

    def _flush(self) -> None:
        for tally in self._tallies.values():
            tally.flush()

    def _read_active(self) -> Mapping[tuple[str, ...], float]:
        return {(method,): float(count) for method, count in self._active.items()}

    def _record(self, observed: _ObservedRequest, scope: Scope, method: str) -> None:
        now = time.perf_counter()
        route = find_route(scope)
        status = str(observed.status) if observed.status else ""
        self._durations.observe(now - observed.began, method, route, status)
        if observed.answered_at:
            self._first_bytes.observe(observed.answered_at - observed.began, method, route)
        if observed.received:
            protocol = _PROTOCOLS.get("/".join(route.split("/", 3)[:3]), "json")
            is_file = protocol != "form" or (route == _UPLOAD_ROUTE and method == "POST")
            self._received.add(observed.received, protocol if is_file else "json")
        if route == _UPLOAD_ROUTE and method == "POST":
            self._uploads.add(1, "form", _describe_upload(observed.status))


class _MemoryAnswers:
    """The answers of one route and status from memory that are not in the shared memory yet. `slow`: the seconds of those above the first
    bucket of `histograms`."""

    __slots__ = ("_histograms", "count", "seconds", "slow")

    def __init__(self, histograms: tuple[memoryview[float], ...]) -> None:
        self._histograms = histograms
        self.count = 0
        self.seconds = 0.0
        self.slow: list[float] = []

    def flush(self) -> None:
        if not self.count:
            return
        for values in self._histograms:
            values[0] += self.count - len(self.slow)
            values[-1] += self.seconds
            for seconds in self.slow:
                values[bisect_left(HTTP_BUCKETS, seconds)] += 1.0
        self.count, self.seconds = 0, 0.0
        self.slow.clear()


class _ObservedRequest:
    __slots__ = ("_receive", "_send", "answered_at", "began", "received", "status")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = time.perf_counter()
        self.answered_at = 0.0
        self.received = 0
        self.status = 0

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if not self.status and message["type"] == "http.response.start":
            self.status = message["status"]
            self.answered_at = time.perf_counter()
        await self._send(message)


def known_method(method: str) -> str:
    return method if method in _METHODS else OTHER


def find_route(scope: Scope) -> str:
    """The template of the route that answers the request."""
    template = find_route_template(scope)
    if template is None:
        # Starlette puts the route that has matched into the scope.
        template = getattr(scope.get(ROUTED_SCOPE, scope).get("route"), "path_format", None)
    return template or OTHER


def _describe_upload(status: int) -> str:
    match status:
        case 201:
            return "created"
        case 200:
            return "duplicate"
        case 0:
            return "aborted"
        case _:
            return "refused" if status < 500 else "failed"
