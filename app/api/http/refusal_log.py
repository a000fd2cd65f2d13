"""Log lines about refused requests and cut answers, bounded for each client address (of IPv6: each /64 network): after the first few, the
rest of a minute is summed up in one line."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

import structlog

from app.api.http.client_address import client_key

log = structlog.get_logger(__name__)

MAX_LINES_PER_CLIENT = 10
WINDOW_SECONDS = 60.0
MAX_CLIENTS = 1000
"""How many are told apart; all others share one entry."""
OTHER_CLIENTS = "others"
CUT_SHORT = "cut short"


@dataclass(slots=True)
class _ClientWindow:
    began: float
    lines: int = 0
    suppressed: Counter[str] = field(default_factory=Counter)


class RefusalLog:
    """For one process. The sum of a minute is written by the first `log_refusal` after it, or by `flush`."""

    def __init__(self) -> None:
        self._minutes: OrderedDict[str, _ClientWindow] = OrderedDict()

    @property
    def has_pending(self) -> bool:
        return bool(self._minutes)

    def log_refusal(
        self, event: str, client: str, status: int, reason: str, correlation_id: str, **fields: str
    ) -> None:
        if self._take_line(client, str(status)):
            log.warning(event, client=client, status=status, reason=reason, correlation_id=correlation_id, **fields)

    def log_cut_short(self, event: str, client: str, reason: str, **fields: str) -> None:
        """Of an answer whose connection ends before it is complete."""
        if self._take_line(client, CUT_SHORT):
            log.warning(event, client=client, reason=reason, **fields)

    def _take_line(self, client: str, kind: str) -> bool:
        """Whether one more line may be written of this client; else it is counted."""
        self.flush()
        key = client_key(client)
        if key not in self._minutes and len(self._minutes) >= MAX_CLIENTS:
            key = OTHER_CLIENTS
        minute = self._minutes.get(key)
        if minute is None:
            minute = self._minutes[key] = _ClientWindow(time.monotonic())
        if minute.lines < MAX_LINES_PER_CLIENT:
            minute.lines += 1
            return True
        minute.suppressed[kind] += 1
        return False

    def flush(self, *, include_current: bool = False) -> None:
        now = time.monotonic()
        while self._minutes:
            client, minute = next(iter(self._minutes.items()))
            if not include_current and now - minute.began < WINDOW_SECONDS:
                return
            self._log_summary(client)

    def _log_summary(self, client: str) -> None:
        minute = self._minutes.pop(client, None)
        if minute is not None and minute.suppressed:
            log.warning(
                "more requests refused or cut short",
                client=client,
                count=minute.suppressed.total(),
                statuses=dict(minute.suppressed),
                seconds=round(time.monotonic() - minute.began),
            )
