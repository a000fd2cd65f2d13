"""Log lines about refused requests and cut answers, bounded for each client address (of IPv6: each /64 network): after the first few, the
rest of a minute is summed up in one line."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

import structlog

from app.api.client_address import site

log = structlog.get_logger(__name__)

LINES = 10
SECONDS = 60.0
ADDRESSES = 1000
"""How many are told apart; all others share one entry."""
OTHERS = "others"
CUT = "cut short"


@dataclass(slots=True)
class _Minute:
    began: float
    lines: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


class RefusalLog:
    """For one process. The sum of a minute is written by the first `note` after it, or by `flush`."""

    def __init__(self) -> None:
        self._minutes: OrderedDict[str, _Minute] = OrderedDict()

    @property
    def pending(self) -> bool:
        return bool(self._minutes)

    def note(self, event: str, client: str, status: int, reason: str, correlation_id: str, **more: str) -> None:
        if self._has_line(client, str(status)):
            log.warning(event, client=client, status=status, reason=reason, correlation_id=correlation_id, **more)

    def note_cut(self, event: str, client: str, reason: str, **more: str) -> None:
        """Of an answer whose connection ends before it is complete."""
        if self._has_line(client, CUT):
            log.warning(event, client=client, reason=reason, **more)

    def _has_line(self, client: str, kind: str) -> bool:
        """Whether one more line may be written of this client; else it is counted."""
        self.flush()
        key = site(client)
        if key not in self._minutes and len(self._minutes) >= ADDRESSES:
            key = OTHERS
        minute = self._minutes.get(key)
        if minute is None:
            minute = self._minutes[key] = _Minute(time.monotonic())
        if minute.lines < LINES:
            minute.lines += 1
            return True
        minute.left_out[kind] += 1
        return False

    def flush(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        while self._minutes:
            client, minute = next(iter(self._minutes.items()))
            if not everything and now - minute.began < SECONDS:
                return
            self._sum_up(client)

    def _sum_up(self, client: str) -> None:
        minute = self._minutes.pop(client, None)
        if minute is not None and minute.left_out:
            log.warning(
                "more requests refused or cut short",
                client=client,
                count=minute.left_out.total(),
                statuses=dict(minute.left_out),
                seconds=round(time.monotonic() - minute.began),
            )
