"""`UploadMetrics`: counts how resumable uploads end. Those of one request are counted by their responses."""

from __future__ import annotations

from app.metrics.families import UPLOADS
from app.metrics.instruments import ProcessMetrics


class UploadMetrics:
    def __init__(self, metrics: ProcessMetrics) -> None:
        self._uploads = metrics.counter(UPLOADS)

    def record(self, protocol: str, outcome: str) -> None:
        self._uploads.add(1, protocol, outcome)
