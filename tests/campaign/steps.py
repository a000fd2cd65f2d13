"""The names of the steps that are tested, and `SharedPage`: memory shared with a service that is to be killed. The page
shows the steps that the service is in, and the step at which it must wait to be killed."""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Sequence
from pathlib import Path

_CATALOGUE_STEPS = (
    "file row begun",
    "live transaction",
    "answer",
    "trash",
    "doom transaction",
    "claim",
    "object deleted",
    "row forgotten",
)
STEPS = {
    "local": (
        *_CATALOGUE_STEPS,
        "temporary file made",
        "bytes written",
        "file flushed",
        "file named",
        "folder flushed",
    ),
    "s3": (
        *_CATALOGUE_STEPS,
        "object put",
        "multipart upload created",
        "part uploaded",
        "multipart upload completed",
    ),
}
"""The steps of the service at plain uploads and deletions, by storage engine."""
SESSION_STEPS = {
    "local": (
        "session created",
        "session taken over",
        "session saved",
        "file row begun",
        "temporary file made",
        "bytes written",
        "file flushed",
        "chunk answered",
        "file named",
        "live transaction",
        "answer",
    ),
    "s3": (
        "session created",
        "session taken over",
        "session saved",
        "file row begun",
        "tail put",
        "chunk answered",
        "tail deleted",
        "multipart upload created",
        "part uploaded",
        "multipart upload completed",
        "live transaction",
        "answer",
    ),
}
"""The steps of the service at resumable uploads, by storage engine, in the order in which an upload first comes to them."""
SERVER_STEPS = {
    engine: tuple(dict.fromkeys((*STEPS[engine], *SESSION_STEPS[engine], "file closed"))) for engine in STEPS
}
"""All steps that a service may enter, by storage engine."""
WORK_STEPS = (
    "task claimed",
    "original staged",
    "metadata read",
    "pictures made",
    "playable video made",
    "file row begun",
    "object put",
    "derivatives swapped",
    "motion added",
    "task done",
)
"""The steps of a worker on S3 at which it is killed."""
SWEEPER_STEPS = ("claim", "object deleted", "row forgotten")

_SIZE = 4096
_TARGET = struct.Struct("<iiii")
"""The step to wait at (-1: none), its entry count, whether to wait after its effect, and whether the service waits now.
"""
_COUNTERS = struct.Struct("<ii")
"""For each step: how many callers are in it, and how many have entered it so far."""


class SharedPage:
    """A page of memory that test and service both write; what the service wrote survives its death. `steps` must be the
    same list on both sides."""

    def __init__(self, path: Path, steps: Sequence[str]) -> None:
        self._steps = list(steps)
        self._lock = threading.Lock()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, _SIZE)
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Reset the page. Call it while no service runs: one would take the zeros for an aim at the first step."""
        self._memory[:] = bytes(_SIZE)
        self.release()

    def aim(self, step: str, entries: int, *, after: bool) -> None:
        """Make the service wait when it enters `step` for the `entries`-th time from now, before or after the step's
        effect."""
        number = self._steps.index(step)
        _, entered = _COUNTERS.unpack_from(self._memory, _offset(number))
        _TARGET.pack_into(self._memory, 0, number, entered + entries, int(after), 0)

    def release(self) -> None:
        """Make the service wait nowhere from now on. One that waits already goes on waiting."""
        _TARGET.pack_into(self._memory, 0, -1, 0, 0, 0)

    @property
    def reached(self) -> bool:
        """True when the service waits at the step that `aim` named."""
        return _TARGET.unpack_from(self._memory, 0)[3] == 1

    def inside(self) -> list[str]:
        """The steps that the service is in, or was in when it died."""
        return [
            step
            for number, step in enumerate(self._steps)
            if _COUNTERS.unpack_from(self._memory, _offset(number))[0] > 0
        ]

    def count(self, step: str) -> int:
        """How often the service has entered the step."""
        return _COUNTERS.unpack_from(self._memory, _offset(self._steps.index(step)))[1]

    def enter(self, step: str) -> tuple[bool, bool]:
        """Record that a step begins. Returns whether to wait before its effect, and whether to wait after it."""
        number = self._steps.index(step)
        with self._lock:
            inside, entered = _COUNTERS.unpack_from(self._memory, _offset(number))
            _COUNTERS.pack_into(self._memory, _offset(number), inside + 1, entered + 1)
            target, wanted, after, reached = _TARGET.unpack_from(self._memory, 0)
        chosen = target == number and entered + 1 >= wanted and not reached
        return chosen and not after, chosen and bool(after)

    def leave(self, step: str) -> None:
        """Record that a step has ended."""
        number = self._steps.index(step)
        with self._lock:
            inside, entered = _COUNTERS.unpack_from(self._memory, _offset(number))
            _COUNTERS.pack_into(self._memory, _offset(number), inside - 1, entered)

    def reach(self) -> None:
        """Record that the service waits at the step where it is to be killed."""
        target, wanted, after, _ = _TARGET.unpack_from(self._memory, 0)
        _TARGET.pack_into(self._memory, 0, target, wanted, after, 1)


def _offset(number: int) -> int:
    return 64 + _COUNTERS.size * number
