"""The schedule of faults: kills and stops of processes at steps that a seed chooses, a restart of PostgreSQL, a pause of the store.

A histogram counts what each fault hit: its kind, the part, and what the part was doing.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

from tests.real.postgres import Postgres
from tests.real.seaweedfs import SeaweedFS
from tests.scale.activities import API_TARGETS, WORKER_TARGETS
from tests.scale.installation import Installation, ObservedProcess

KILLED, STOPPED, RESTARTED, PAUSED = "killed", "stopped", "restarted", "paused"
KINDS = {(kind, part) for kind in (KILLED, STOPPED) for part in ("API", "worker")} | {
    (RESTARTED, "PostgreSQL"),
    (PAUSED, "store"),
}
"""All kinds of faults, each with the part that it strikes."""
REACH_SECONDS = 20.0
"""How long a fault waits for a process at its step; then it strikes whatever one of them does."""
ATTEMPTS = 3
"""So often a kind of fault is repeated that struck a process which did nothing."""
POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Plan:
    """`seconds`: how long faults go on; each thread has at least one of each kind, that hits work. `longest_stop`, `store_pause`: seconds.
    `outages`: how often PostgreSQL is restarted and the store paused. `pause`: the longest pause of a thread between two faults, in seconds."""

    seconds: float
    longest_stop: float
    store_pause: float
    outages: int
    pause: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One fault: what it did to which part, and what the part was doing."""

    kind: str
    part: str
    activities: tuple[str, ...]


class FaultSchedule:
    """Disturbs an installation. Two threads disturb processes that serve, so that two of three may be down; one disturbs workers."""

    def __init__(
        self, installation: Installation, postgres: Postgres, store: SeaweedFS, plan: Plan, dice: random.Random
    ) -> None:
        self._installation = installation
        self._postgres = postgres
        self._store = store
        self._plan = plan
        self._dice = dice
        self._hits: list[Hit] = []
        self._ended = threading.Event()
        self._disturbed: set[ObservedProcess] = set()
        self._aiming = {"API": threading.Lock(), "worker": threading.Lock()}
        """Held while processes of the part are aimed at."""
        self._targets = {"API": _shuffled_cycle(API_TARGETS, dice), "worker": _shuffled_cycle(WORKER_TARGETS, dice)}

    def run(self, is_failed: Callable[[], bool]) -> None:
        """Returns when the schedule has ended, or soon after `is_failed`. Whatever was disturbed runs again then."""
        services, workers = self._installation.services, self._installation.workers
        end = time.monotonic() + self._plan.seconds
        with ThreadPoolExecutor(4) as threads:
            lanes = [threads.submit(self._disturb, processes, end) for processes in (services, services, workers)]
            lanes.append(threads.submit(self._interrupt))
            while not all(lane.done() for lane in lanes):
                if is_failed() or any(lane.done() and lane.exception() for lane in lanes):
                    self._ended.set()
                time.sleep(0.1)
            for lane in lanes:
                lane.result()

    @property
    def histogram(self) -> Counter[tuple[str, str, str]]:
        """By kind of fault, part and activity; a fault counts once for each activity."""
        return Counter(
            (hit.kind, hit.part, activity) for hit in self._hits for activity in hit.activities or ("nothing",)
        )

    def describe(self) -> list[str]:
        """A line for each kind of fault and part."""
        lines = []
        for kind, part in sorted({(hit.kind, hit.part) for hit in self._hits}):
            number = sum((hit.kind, hit.part) == (kind, part) for hit in self._hits)
            counts = Counter({act: n for (of, at, act), n in self.histogram.items() if (of, at) == (kind, part)})
            shown = ", ".join(f"{activity} {count}" for activity, count in counts.most_common())
            lines.append(f"{part} {kind} {number} times, while doing: {shown}")
        return lines

    def find_missed(self) -> set[tuple[str, str]]:
        """The kinds of faults that never hit anything at work."""
        return KINDS - {(hit.kind, hit.part) for hit in self._hits if hit.activities}

    def _disturb(self, processes: Sequence[ObservedProcess], end: float) -> None:
        for fault in self._dice.sample([self._kill, self._stop], 2):
            attempts = 0
            while not self._is_ended() and not fault(processes):
                attempts += 1
                assert attempts < ATTEMPTS, "no process has anything to do"
        while time.monotonic() < end and not self._is_ended():
            self._dice.choice([self._kill, self._stop])(processes)

    def _is_ended(self) -> bool:
        return self._ended.wait(self._dice.uniform(0, self._plan.pause))

    def _interrupt(self) -> None:
        """Restart PostgreSQL, and pause the store, at random moments of the plan's time."""
        for _ in range(self._plan.outages):
            for fault in self._dice.sample([self._restart_database, self._pause_store], 2):
                longest = self._plan.seconds / self._plan.outages / 2 - self._plan.store_pause
                if self._ended.wait(self._dice.uniform(longest / 4, longest)):
                    return
                fault()

    def _kill(self, processes: Sequence[ObservedProcess]) -> bool:
        """Kill one of the processes, and start it again. Returns whether it was doing anything."""
        with self._aimed_at(processes) as process:
            process.kill()
            is_at_work = self._record(KILLED, process.part, [process])
            process.start()
        return is_at_work

    def _stop(self, processes: Sequence[ObservedProcess]) -> bool:
        """Stop one of the processes for a while. Returns whether it was doing anything."""
        longest = self._plan.longest_stop
        with self._aimed_at(processes) as process, process.stopped():
            is_at_work = self._record(STOPPED, process.part, [process])
            self._ended.wait(self._dice.choice((self._dice.uniform(0, 0.3), self._dice.uniform(longest / 2, longest))))
            process.page.release()
        return is_at_work

    def _restart_database(self) -> None:
        self._await_work()
        self._record(RESTARTED, "PostgreSQL", self._installation.processes)
        self._postgres.restart()

    def _pause_store(self) -> None:
        self._await_work()
        with self._store.paused():
            self._record(PAUSED, "store", self._installation.processes)
            self._ended.wait(self._plan.store_pause)

    @contextmanager
    def _aimed_at(self, processes: Sequence[ObservedProcess]) -> Iterator[ObservedProcess]:
        """That of the processes which is the first at the next step of the list, or any of them if none comes to it in time. Nobody else
        disturbs it within the block."""
        part = processes[0].part
        with self._aiming[part]:
            free = [process for process in processes if process not in self._disturbed]
            step, after = next(self._targets[part]), self._dice.random() < 0.5
            for process in free:
                process.page.aim(step, 1, after=after)
            chosen = self._await_first(free)
            self._disturbed.add(chosen)
            for process in free:
                if process is not chosen:
                    process.page.release()
        try:
            yield chosen
        finally:
            self._disturbed.remove(chosen)

    def _await_work(self) -> None:
        """Wait until a process is doing something: a fault that strikes nobody shows nothing."""
        end = time.monotonic() + REACH_SECONDS
        while time.monotonic() < end and not self._ended.is_set():
            if any(process.page.inside() for process in self._installation.processes):
                return
            time.sleep(POLL_SECONDS)

    def _await_first(self, processes: Sequence[ObservedProcess]) -> ObservedProcess:
        end = time.monotonic() + REACH_SECONDS
        while time.monotonic() < end and not self._ended.is_set():
            for process in processes:
                if process.page.reached:
                    return process
            time.sleep(POLL_SECONDS)
        return self._dice.choice(processes)

    def _record(self, kind: str, part: str, processes: Sequence[ObservedProcess]) -> bool:
        activities = {activity for process in processes for activity in process.page.inside()}
        self._hits.append(Hit(kind, part, tuple(sorted(activities))))
        return bool(activities)


def _shuffled_cycle(steps: Sequence[str], dice: random.Random) -> Iterator[str]:
    return cycle(dice.sample(steps, len(steps)))
