"""The steps of an upload and a deletion, and a page of memory shared with a service that is about to be killed: which steps it is
in right now, and at which one it shall wait for its end."""

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
"""Of the service, by engine."""
WORK_STEPS = (
    "task claimed",
    "original staged",
    "pictures made",
    "motion looked for",
    "playable video made",
    "file row begun",
    "object put",
    "derivatives swapped",
    "motion added",
    "task done",
)
"""Of a worker on S3, in which it is killed."""
SWEEPER_STEPS = ("claim", "object deleted", "row forgotten")

_SIZE = 4096
_TARGET = struct.Struct("<iiii")
"""The step to wait at (-1: none), from which entry on, whether after its effect, and whether it waits now."""
_COUNTERS = struct.Struct("<ii")
"""For each step, how many are inside, and how many entered so far."""


class SharedPage:
    """Both sides write it, and what the service wrote survives its death. `steps`: the same, in the same order, on both sides."""

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
        """Forget everything; while no service runs."""
        self._memory[:] = bytes(_SIZE)
        _TARGET.pack_into(self._memory, 0, -1, 0, 0, 0)

    def aim(self, step: str, entries: int, *, after: bool) -> None:
        """Let the service wait when it comes to `step` for the `entries`-th time from now, before or after its effect."""
        number = self._steps.index(step)
        _, entered = _COUNTERS.unpack_from(self._memory, _place(number))
        _TARGET.pack_into(self._memory, 0, number, entered + entries, int(after), 0)

    @property
    def reached(self) -> bool:
        """True once the service waits where it was aimed at."""
        return _TARGET.unpack_from(self._memory, 0)[3] == 1

    def inside(self) -> list[str]:
        """The steps that the service is in, or was when it died."""
        return [
            step
            for number, step in enumerate(self._steps)
            if _COUNTERS.unpack_from(self._memory, _place(number))[0] > 0
        ]

    def enter(self, step: str) -> tuple[bool, bool]:
        """The step begins: whether the end is awaited before, or after its effect."""
        number = self._steps.index(step)
        with self._lock:
            inside, entered = _COUNTERS.unpack_from(self._memory, _place(number))
            _COUNTERS.pack_into(self._memory, _place(number), inside + 1, entered + 1)
            target, wanted, after, reached = _TARGET.unpack_from(self._memory, 0)
        chosen = target == number and entered + 1 >= wanted and not reached
        return chosen and not after, chosen and bool(after)

    def leave(self, step: str) -> None:
        """The step is over."""
        number = self._steps.index(step)
        with self._lock:
            inside, entered = _COUNTERS.unpack_from(self._memory, _place(number))
            _COUNTERS.pack_into(self._memory, _place(number), inside - 1, entered)

    def reach(self) -> None:
        """The service is where it shall die: tell whoever is to kill it."""
        target, wanted, after, _ = _TARGET.unpack_from(self._memory, 0)
        _TARGET.pack_into(self._memory, 0, target, wanted, after, 1)


def _place(number: int) -> int:
    return 64 + _COUNTERS.size * number
