"""Rate-limits log lines about refused requests and aborted responses per client address (for IPv6: per /64 network).

After `MAX_LINES_PER_CLIENT` lines in a window of a minute, the rest of that window is summarized in one line.
"""

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
"""Clients with a window of their own; all others share one window."""
OTHER_CLIENTS = "others"
CUT_SHORT = "cut short"


@dataclass(slots=True)
class _ClientWindow:
    began: float
    lines: int = 0
    suppressed: Counter[str] = field(default_factory=Counter)


class RefusalLog:
    """The refusal log of one process. The next log call after a window's end writes the window's summary, or `flush` does."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _ClientWindow] = OrderedDict()

    @property
    def has_pending(self) -> bool:
        """Whether windows are open, so that `flush` must be called again."""
        return bool(self._windows)

    def log_refusal(
        self, event: str, client: str, status: int, reason: str, correlation_id: str, **fields: str
    ) -> None:
        if self._take_line(client, str(status)):
            log.warning(event, client=client, status=status, reason=reason, correlation_id=correlation_id, **fields)

    def log_cut_short(self, event: str, client: str, reason: str, **fields: str) -> None:
        """Log a response whose connection ends before the response is complete."""
        if self._take_line(client, CUT_SHORT):
            log.warning(event, client=client, reason=reason, **fields)

    def _take_line(self, client: str, kind: str) -> bool:
        """Whether one more line may be written for this client; if not, the line is counted for the summary."""
        self.flush()
        key = client_key(client)
        if key not in self._windows and len(self._windows) >= MAX_CLIENTS:
            key = OTHER_CLIENTS
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _ClientWindow(time.monotonic())
        if window.lines < MAX_LINES_PER_CLIENT:
            window.lines += 1
            return True
        window.suppressed[kind] += 1
        return False

    def flush(self, *, include_current: bool = False) -> None:
        """Write the summaries of all windows that have ended; `include_current`: of the open ones too, at shutdown."""
        now = time.monotonic()
        while self._windows:
            client, window = next(iter(self._windows.items()))
            if not include_current and now - window.began < WINDOW_SECONDS:
                return
            self._log_summary(client)

    def _log_summary(self, client: str) -> None:
        window = self._windows.pop(client, None)
        if window is not None and window.suppressed:
            log.warning(
                "more requests refused or cut short",
                client=client,
                count=window.suppressed.total(),
                statuses=dict(window.suppressed),
                seconds=round(time.monotonic() - window.began),
            )
