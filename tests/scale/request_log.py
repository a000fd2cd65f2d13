"""What the clients' requests came to: whole answers, answers that ended early, refusals, and none. Used by many threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from enum import StrEnum


class Outcome(StrEnum):
    """`REFUSED`: 429 or a status of 5xx that says to try again. `SHORT`: the connection ended within the answer. `UNANSWERED`: it ended before,
    or nothing came within the client's patience. `CONFLICT`: of a resumable upload, which an older request still holds."""

    WHOLE = "whole"
    REFUSED = "refused"
    SHORT = "short"
    UNANSWERED = "unanswered"
    CONFLICT = "conflict"


class RequestLog:
    """`outcomes`: by kind of request and outcome. `statuses`: of refusals. `longest`: seconds of the longest request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.outcomes: Counter[tuple[str, Outcome]] = Counter()
        self.statuses: Counter[int] = Counter()
        self.longest = 0.0
        self.longest_outage = 0.0
        """Seconds of the longest time in which no request of anybody got a whole answer."""
        self._last_success = time.monotonic()

    def record(self, kind: str, outcome: Outcome, seconds: float, status: int | None = None) -> None:
        with self._lock:
            self.outcomes[kind, outcome] += 1
            self.longest = max(self.longest, seconds)
            if outcome is Outcome.WHOLE:
                now = time.monotonic()
                self.longest_outage = max(self.longest_outage, now - self._last_success)
                self._last_success = now
            elif outcome is Outcome.REFUSED and status is not None:
                self.statuses[status] += 1

    def count(self, *outcomes: Outcome) -> int:
        with self._lock:
            return sum(count for (_, outcome), count in self.outcomes.items() if outcome in outcomes)

    @property
    def failures(self) -> dict[str, int]:
        """What was not answered whole, by kind of request and outcome."""
        with self._lock:
            return {f"{kind} {each}": count for (kind, each), count in self.outcomes.items() if each != Outcome.WHOLE}

    @property
    def kinds(self) -> set[str]:
        """The kinds of requests that were answered whole."""
        with self._lock:
            return {kind for kind, outcome in self.outcomes if outcome is Outcome.WHOLE}

    def describe(self) -> str:
        totals = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in Outcome if self.count(outcome))
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"{sum(self.outcomes.values())} requests ({totals}; statuses {{{statuses}}}), the longest {self.longest:.1f} s, "
            f"the longest time without a whole answer {self.longest_outage:.1f} s"
        )
