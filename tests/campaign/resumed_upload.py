"""`ResumedUpload`: one file of `ResumingClient`, and what the service has acknowledged of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ResumedUpload:
    """`ends`: offsets at which requests end. `offset`: where to continue, None if it must be asked for. `acknowledged`: the highest offset
    that the service has told. `repeated`: bytes that were sent although they were acknowledged. `asset`: the id in the last response."""

    protocol: str
    data: bytes
    ends: tuple[int, ...]
    location: str = ""
    offset: int | None = 0
    acknowledged: int = 0
    repeated: int = 0
    sent: int = 0
    asset: str = ""

    def acknowledge(self, offset: int) -> None:
        assert offset >= self.acknowledged, f"{self.acknowledged} bytes were acknowledged, and then {offset}"
        self.offset = self.acknowledged = offset

    @property
    def is_last_request_next(self) -> bool:
        return self._next_end is None

    def take_chunk(self) -> bytes:
        """The bytes of the next request: none where all are acknowledged, and only the response is missing."""
        start = self.offset or 0
        chunk = self.data[start : self._next_end]
        self.sent += len(chunk)
        self.repeated += max(0, min(self.acknowledged, start + len(chunk)) - start)
        return chunk

    @property
    def _next_end(self) -> int | None:
        return next((end for end in self.ends if end > (self.offset or 0)), None)
