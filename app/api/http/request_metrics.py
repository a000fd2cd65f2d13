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

from app.api.handlers.file_requests import find_route_template
from app.api.http.request_head import KNOWN_METHODS
from app.metrics.families import (
    DISK,
    FIRST_BYTE,
    HTTP_ACTIVE,
    HTTP_BUCKETS,
    HTTP_DURATION,
    OTHER,
    RECEIVED_BYTES,
    SENT_BYTES,
    UPLOADS,
)
from app.metrics.instruments import ProcessMetrics

_METHODS = frozenset(method.decode("ascii") for method in KNOWN_METHODS)
_PROTOCOLS = {"/api/assets": "form", "/api/uploads": "tus", "/api/upload": "ietf"}
"""By the first two segments of a route: the protocol whose bodies are files."""
_UPLOAD_ROUTE = "/api/assets"

ROUTED_SCOPE = "mediavault.routed_scope"
"""The key of the scope that was routed in place of the request's own."""

Handle = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestMetrics:
    """One per process."""

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._durations = metrics.histogram(HTTP_DURATION)
        self._first_bytes = metrics.histogram(FIRST_BYTE)
        self._received = metrics.counter(RECEIVED_BYTES)
        self._uploads = metrics.counter(UPLOADS)
        self._active: Counter[str] = Counter()
        self._from_memory: dict[tuple[str, bytes], tuple[memoryview[float], memoryview[float]]] = {}
        """By the end of the path and the status: the values of both histograms."""
        self._sent_from_disk = metrics.counter(SENT_BYTES).series.find((DISK,))
        metrics.add_gauge(HTTP_ACTIVE, self._read_active)

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

    def record_memory_answer(self, path_end: str, status: bytes, size: int, seconds: float) -> None:
        """Record a GET that was answered from memory at once: head and body were sent together."""
        try:
            durations, first_bytes = self._from_memory[path_end, status]
        except KeyError:
            durations, first_bytes = self._add_memory_series(path_end, status)
        bucket = bisect_left(HTTP_BUCKETS, seconds)
        durations[bucket] += 1.0
        durations[-1] += seconds
        first_bytes[bucket] += 1.0
        first_bytes[-1] += seconds
        self._sent_from_disk[0] += size

    def record_refusal(self, method: str, status: int) -> None:
        """Record a request that the server refused before it had a route."""
        self._durations.observe(0.0, known_method(method), OTHER, str(status))

    def _add_memory_series(self, path_end: str, status: bytes) -> tuple[memoryview[float], memoryview[float]]:
        route = f"/api/assets/{{id}}{path_end}"
        series = (
            self._durations.series.find(("GET", route, status.decode("ascii"))),
            self._first_bytes.series.find(("GET", route)),
        )
        self._from_memory[path_end, status] = series
        return series

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
