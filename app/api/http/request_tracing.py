"""The span of a request: its name and attributes, as OpenTelemetry's conventions for HTTP have them. Addresses appear without their query."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.types import Receive, Scope, Send

from app.api.handlers.archive_requests import redact_path
from app.api.http.request_metrics import Handle, find_route, known_method
from app.api.request_context import TRACE_ID
from app.metrics.families import OTHER
from app.tracing import Tracing, fail_span, format_trace_id

_PROPAGATED = (b"traceparent", b"tracestate")


async def trace_request(tracing: Tracing, handle: Handle, scope: Scope, receive: Receive, send: Send) -> None:
    """Await `handle` within a span."""
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _PROPAGATED}
    status = 0

    async def send_observed(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)

    with tracing.request(headers) as span:
        scope[TRACE_ID] = format_trace_id(span)
        try:
            await handle(scope, receive, send_observed)
        finally:
            method, route = known_method(scope["method"]), find_route(scope)
            span.update_name(method if route == OTHER else f"{method} {route}")
            span.set_attribute("http.request.method", method)
            span.set_attribute("url.scheme", scope["scheme"])
            span.set_attribute("url.path", redact_path(scope["path"]))
            if route != OTHER:
                span.set_attribute("http.route", route)
            if status:
                span.set_attribute("http.response.status_code", status)
            if status >= 500 or not status:
                fail_span(span, str(status) if status else "aborted")
