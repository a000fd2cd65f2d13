"""`TracedCalls`: makes a span of each call of one backend."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from app.storage.metered.calls import Stopwatch, describe_outcome
from app.tracing import Tracing

T = TypeVar("T")


class TracedCalls:
    """The calls of the backend `name`. The span of a stream is made when it ends, and is as long as the time spent in the backend."""

    def __init__(self, tracing: Tracing, name: str) -> None:
        self.name = name
        self._tracing = tracing

    async def measure(self, operation: str, call: Awaitable[T]) -> T:
        with self._tracing.span(f"storage {operation}", {"mediavault.storage.backend": self.name}) as span:
            try:
                return await call
            except BaseException as error:
                span.set_attribute("mediavault.storage.outcome", describe_outcome(error))
                raise

    def record(self, operation: str, error: BaseException | None, watch: Stopwatch) -> None:
        attributes = {"mediavault.storage.backend": self.name, "mediavault.storage.outcome": describe_outcome(error)}
        self._tracing.record(
            f"storage {operation}", watch.seconds, attributes, None if error is None else type(error).__name__
        )

    def count_bytes(self, direction: str, size: int) -> None:
        """Nothing: bytes are counted in metrics."""

    def count_stream(self, direction: str, change: int) -> None:
        """Nothing: open streams are counted in metrics."""
