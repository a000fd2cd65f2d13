"""Reads from the logs of an installation's processes which of them did the work that only one may do, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

_LINE = re.compile(
    r"^(?P<time>\S+Z) .*?this process (?P<event>is elected|gives its work up).*?process=(?P<process>\d+) work=(?P<work>\w+)",
    re.MULTILINE,
)
NOTICED_AFTER_STOP = timedelta(seconds=3)
_FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Term:
    """The time in which a process did the work. `ended` is far away while it still does."""

    work: str
    process: int
    begun: datetime
    ended: datetime = _FOREVER


@dataclass(frozen=True, slots=True)
class Stop:
    """The time in which a process was stopped (SIGSTOP)."""

    process: int
    begun: datetime
    ended: datetime


def read_terms(logs: Iterable[str], killed: Mapping[int, datetime]) -> dict[str, list[Term]]:
    """The terms of each kind of work, in the order in which they began. `killed`: when processes were killed, by id: their logs end
    without a line."""
    terms: dict[str, list[Term]] = {}
    for log in logs:
        running: dict[tuple[str, int], Term] = {}
        for line in _LINE.finditer(log):
            holder = line["work"], int(line["process"])
            time = datetime.fromisoformat(line["time"])
            if line["event"] == "is elected":
                assert holder not in running, f"elected twice: {holder}"
                running[holder] = Term(*holder, time)
            else:
                terms.setdefault(line["work"], []).append(replace(running.pop(holder), ended=time))
        for (work, process), term in running.items():
            terms.setdefault(work, []).append(replace(term, ended=killed.get(process, _FOREVER)))
    return {work: sorted(of_work, key=lambda term: term.begun) for work, of_work in terms.items()}


def assert_never_two(terms: Mapping[str, list[Term]], stops: Iterable[Stop] = ()) -> None:
    """Two terms never overlap, but for a holder that was stopped while it lost its lock: it does nothing meanwhile, and gives the work up soon
    after it was continued."""
    known = list(stops)
    for work, of_work in terms.items():
        for earlier, later in pairwise(of_work):
            both = min(earlier.ended, later.ended) - later.begun
            is_excused = any(
                stop.process == earlier.process
                and stop.begun <= later.begun <= stop.ended
                and earlier.ended <= stop.ended + NOTICED_AFTER_STOP
                for stop in known
            )
            assert both <= timedelta(0) or is_excused, (
                f"{earlier.process} and {later.process} both did {work}, for {both}"
            )


def find_longest_gap(terms: Mapping[str, list[Term]]) -> timedelta:
    """The longest time in which nobody did the work, after somebody had done it."""
    gaps = [later.begun - earlier.ended for of_work in terms.values() for earlier, later in pairwise(of_work)]
    return max(gaps, default=timedelta(0))
