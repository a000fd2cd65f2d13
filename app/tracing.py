"""`Tracing`: spans of OpenTelemetry, exported to the collector that the standard settings (`OTEL_…`) name.

The extra `otel` brings the exporter. Without `OTEL_EXPORTER_OTLP_ENDPOINT` nothing of it is imported, and no span is made.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanKind

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
STOP_SECONDS = 3.0
"""How long the last spans may take to be exported at a stop."""

Attributes = Mapping[str, str | int]


class TracingUnavailable(Exception):
    """The settings name a collector, and the packages are not installed."""


class Tracing:
    """Makes spans. The current span is that of the task that runs, so spans within a block become its children."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - see above

        self._tracer = provider.get_tracer("mediavault")
        self._server, self._internal = SpanKind.SERVER, SpanKind.INTERNAL

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Generator[Span]:
        """The span of a request. `headers` may hold `traceparent` and `tracestate`; then it continues the client's trace."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        parent = TraceContextTextMapPropagator().extract(headers)
        with self._tracer.start_as_current_span("request", parent, self._server, record_exception=False) as span:
            yield span

    @contextmanager
    def span(self, name: str, attributes: Attributes) -> Generator[Span]:
        """An exception ends the span as failed; its text, which may hold names of files, is not recorded."""
        with self._tracer.start_as_current_span(
            name, kind=self._internal, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                fail_span(span, type(error).__name__)
                raise

    def record(self, name: str, seconds: float, attributes: Attributes, failure: str | None) -> None:
        """A span that has just ended, after `seconds`; `failure`: the kind of its error."""
        end = time.time_ns()
        kind: SpanKind = self._internal
        span = self._tracer.start_span(name, kind=kind, attributes=attributes, start_time=end - int(seconds * 1e9))
        if failure is not None:
            fail_span(span, failure)
        span.end(end)


def fail_span(span: Span, kind: str) -> None:
    """Mark the span as failed. `kind`: the name of the error's class, or a status."""
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - see above

    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def format_trace_id(span: Span) -> str:
    """32 hexadecimal digits."""
    return f"{span.get_span_context().trace_id:032x}"


@asynccontextmanager
async def open_tracing(version: str) -> AsyncIterator[Tracing | None]:
    """None if no collector is named. Raises `TracingUnavailable`. `version`: this program's."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(os.environ.get, ENDPOINTS)):
        yield None
        return
    try:
        provider = await asyncio.to_thread(_create_provider, version)
    except ImportError:
        name = next(name for name in ENDPOINTS if os.environ.get(name))
        raise TracingUnavailable(f"{name}: the packages for traces are missing: install mediavault[otel]") from None
    try:
        yield Tracing(provider)
    finally:
        # The exporter retries for a minute where the collector does not answer. Its thread is a daemon.
        stopping = asyncio.create_task(asyncio.to_thread(provider.force_flush, int(STOP_SECONDS * 1000)))
        await asyncio.wait([stopping], timeout=STOP_SECONDS)


def _create_provider(version: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    attributes = {"service.version": version}
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        attributes["service.name"] = "mediavault"
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
