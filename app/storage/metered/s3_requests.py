"""Counts the retries of the S3 backend, and samples the use of its connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.metrics.families import S3_CONNECTIONS, STORAGE_RETRIES, TRANSFERS_REFUSED
from app.metrics.instruments import ProcessMetrics
from app.storage.s3.backend import S3Backend


def meter_s3_requests(backend: S3Backend, metrics: ProcessMetrics) -> None:
    """Call once, before the first request."""
    retries = metrics.counter(STORAGE_RETRIES)

    def count_retry() -> None:
        retries.add(1, backend.name)

    backend.reader.on_retry = count_retry
    attempts = _SdkAttempts(count_retry)
    events = backend.client.sdk.meta.events
    events.register("before-call.s3", attempts.begin_call)
    events.register("request-created.s3", attempts.begin_attempt)

    def read_connections() -> Mapping[tuple[str, ...], float]:
        return {
            (pool, state): float(count)
            for pool, (in_use, waiting) in backend.count_connections().items()
            for state, count in (("in_use", in_use), ("waiting", waiting))
        }

    metrics.add_gauge(S3_CONNECTIONS, read_connections)
    metrics.add_total(TRANSFERS_REFUSED, lambda: {("s3_reads",): float(backend.reader.connections.refused_total)})


class _SdkAttempts:
    """Handlers of the SDK's events. A call that is repeated makes its requests from one context."""

    def __init__(self, on_retry: Any) -> None:
        self._on_retry = on_retry

    def begin_call(self, context: dict[str, Any], **_: Any) -> None:
        context["mediavault_attempts"] = 0

    def begin_attempt(self, request: Any, **_: Any) -> None:
        context = request.context
        context["mediavault_attempts"] = context.get("mediavault_attempts", 0) + 1
        if context["mediavault_attempts"] > 1:
            self._on_retry()
