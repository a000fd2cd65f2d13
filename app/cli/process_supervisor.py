"""Runs several serving processes on the same listening sockets: starts them, replaces those that end, and stops them.

The supervisor forks, so that the processes share the memory of the modules and a replacement is there within a second. It must have no
threads and no event loop. A process and its supervisor talk over a pair of sockets: the process reports that it is ready and is told to stop,
and each notices the other's end. Signals are no substitute: a terminal or an init system may send them to all processes at once.

SIGTERM and SIGINT stop all processes. SIGHUP replaces them one after the other; each new one is ready before the old one stops.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

import structlog

from app.api.http.server import READY, StopOrder
from app.metrics.segments import SharedSegments

REPLACEMENT_SECONDS = 120.0
"""How long a process that replaces another one may take to become ready; then it is killed, and the other one stays."""
MOST_PAUSE_SECONDS = 30.0
"""The longest pause before a process is started again that has ended without becoming ready."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServingProcess:
    """What a forked process is told of itself. `slot`: its number, from 0, which a process that replaces another one takes over. `is_first`: no
    process has served before. `channel`: its end of the pair of sockets. `segment`: the index of its segment of `SharedSegments`, if there is
    one left."""

    slot: int
    is_first: bool
    channel: socket.socket
    segment: int | None


@dataclass(slots=True, eq=False)
class _Member:
    """A forked process, as its supervisor sees it. `replaces`: the older process that is told to stop once this one is ready. `started_at`: on
    the monotonic clock."""

    slot: int
    pid: int
    channel: socket.socket
    segment: int | None
    replaces: _Member | None
    started_at: float
    is_ready: bool = False
    is_stopping: bool = False


class ProcessSupervisor:
    """Keeps `count` processes running `serve`, which returns an exit status, until a signal stops it."""

    def __init__(
        self,
        count: int,
        serve: Callable[[ServingProcess], int],
        sockets: Sequence[socket.socket],
        *,
        drain_delay: float,
        segments: SharedSegments | None = None,
    ) -> None:
        """`sockets`: the listening sockets, which the supervisor keeps open while any process may be replaced. `drain_delay`: in seconds.
        `segments`: the memory for the processes' metrics."""
        self._count = count
        self._serve = serve
        self._sockets = sockets
        self._drain_delay = drain_delay
        self._segments = segments
        self._selector = selectors.DefaultSelector()
        self._members: dict[int, _Member] = {}
        self._starts: dict[int, float] = {0: 0.0}
        """By slot: when a process is to be started, on the monotonic clock."""
        self._failures = [0] * count
        self._to_replace: deque[_Member] = deque()
        self._was_ready = False
        self._stop_signals = 0
        self._close_at = float("inf")
        self._signals: deque[int] = deque()
        self._status = 0

    def run(self) -> int:
        """Returns the exit status: 0 after a stop, that of the first process if it did not start."""
        if threading.active_count() > 1:
            raise RuntimeError("a process with threads cannot be forked safely")
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        former = {each: signal.signal(each, self._on_signal) for each in _SIGNALS}
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._selector.register(reading, selectors.EVENT_READ)
        try:
            while not self._is_done:
                self._wait(reading)
                self._handle_signals()
                self._reap()
                self._advance()
        finally:
            signal.set_wakeup_fd(-1)
            for each, handler in former.items():
                signal.signal(each, handler)
            self._selector.close()
            reading.close()
            writing.close()
        return self._status

    @property
    def _is_done(self) -> bool:
        return not self._members and (self._stop_signals > 0 or self._status != 0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def _wait(self, wake: socket.socket) -> None:
        """Wait for a signal, for a message of a process, or until something is due."""
        replacing = [member.started_at + REPLACEMENT_SECONDS for member in self._members.values() if member.replaces]
        due = min([*self._starts.values(), *replacing, self._close_at])
        timeout = None if due == float("inf") else max(0.0, due - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with suppress(BlockingIOError):
                    wake.recv(4096)
            else:
                self._read_channel(key.data)

    def _read_channel(self, member: _Member) -> None:
        try:
            message = member.channel.recv(16)
        except OSError:
            message = b""
        if not message:  # the process ends; `_reap` handles it
            self._selector.unregister(member.channel)
        elif READY in message:
            self._on_ready(member)

    def _on_ready(self, member: _Member) -> None:
        member.is_ready = True
        self._failures[member.slot] = 0
        if not self._was_ready:
            self._was_ready = True
            self._starts |= dict.fromkeys(range(1, self._count), 0.0)
        if member.replaces is not None:
            self._tell(member.replaces, StopOrder.REPLACED)
            member.replaces = None

    def _handle_signals(self) -> None:
        while self._signals:
            number = self._signals.popleft()
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(delay=self._drain_delay if number == signal.SIGTERM else 0.0)
            elif number == signal.SIGHUP and not self._stop_signals:
                log.info("the processes are replaced", processes=len(self._members))
                self._to_replace = deque(each for each in self._members.values() if not each.is_stopping)

    def _stop(self, *, delay: float) -> None:
        self._stop_signals += 1
        self._starts.clear()
        self._to_replace.clear()
        if self._stop_signals == 1:
            # Without a process that accepts them, connections would wait in the backlog.
            self._close_at = time.monotonic() + delay
            order = StopOrder.DRAIN if delay else StopOrder.REPLACED
        else:
            order = StopOrder.END
        for member in self._members.values():
            self._tell(member, order)

    def _tell(self, member: _Member, order: StopOrder) -> None:
        member.is_stopping = True
        with suppress(OSError):  # it has ended
            member.channel.send(order.value)

    def _reap(self) -> None:
        for member in list(self._members.values()):
            pid, status = os.waitpid(member.pid, os.WNOHANG)
            if pid:
                self._on_ended(member, os.waitstatus_to_exitcode(status))

    def _on_ended(self, member: _Member, status: int) -> None:
        """`status`: the exit status; negative: the signal that killed the process."""
        del self._members[member.pid]
        if self._segments is not None and member.segment is not None:
            self._segments.release(member.segment)
        with suppress(KeyError, ValueError):
            self._selector.unregister(member.channel)
        member.channel.close()
        if member.is_stopping:
            return
        log.error("a serving process ended", process=member.pid, status=status, was_ready=member.is_ready)
        if not self._was_ready:
            self._status = status if status > 0 else 1
            return
        if member.replaces is not None:
            self._to_replace.clear()
            log.error("a new process did not start, so the others are not replaced", process=member.pid)
        if any(other.slot == member.slot and not other.is_stopping for other in self._members.values()):
            return
        pause = 0.0
        if not member.is_ready:
            self._failures[member.slot] += 1
            pause = min(2.0 ** self._failures[member.slot], MOST_PAUSE_SECONDS)
        self._starts[member.slot] = time.monotonic() + pause

    def _advance(self) -> None:
        """Do what is due: close the listening sockets, give up a replacement, start processes, replace the next one."""
        now = time.monotonic()
        for member in self._members.values():
            if member.replaces is not None and now >= member.started_at + REPLACEMENT_SECONDS:
                member.started_at = float("inf")  # killed once: `_on_ended` reports it
                os.kill(member.pid, signal.SIGKILL)
        if now >= self._close_at:
            self._close_at = float("inf")
            for each in self._sockets:
                each.close()
        for slot in [slot for slot, due in self._starts.items() if due <= now]:
            del self._starts[slot]
            self._start(slot, None)
        if not any(member.replaces is not None for member in self._members.values()):
            while self._to_replace:
                old = self._to_replace.popleft()
                if old.pid in self._members:
                    self._start(old.slot, old)
                    break

    def _start(self, slot: int, replaces: _Member | None) -> None:
        ours, theirs = socket.socketpair()
        segment = self._segments.acquire() if self._segments is not None else None
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._run_process(ServingProcess(slot, not self._was_ready, theirs, segment))
        theirs.close()
        ours.setblocking(False)
        member = self._members[pid] = _Member(slot, pid, ours, segment, replaces, time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, member)

    def _run_process(self, process: ServingProcess) -> None:
        """The forked process; does not return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor, too
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self._selector.close()
            for member in self._members.values():
                member.channel.close()
            status = self._serve(process)
        except BaseException:  # noqa: BLE001 - the outermost edge of the forked process
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
