"""Measures a service: peak memory of its process tree, bytes that it reads from files, and which processes serve."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

SAMPLE_SECONDS = 0.02
WAIT_SECONDS = 10.0


def resident_bytes(process: psutil.Process) -> int:
    """Resident memory of the process and its descendants."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total


def serving(process: psutil.Process) -> dict[int, psutil.Process]:
    """The children of a service with several processes, by id. One that has ended is none, also if that is not known yet when they are listed."""
    running: dict[int, psutil.Process] = {}
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                running[child.pid] = child
    return running


def read_bytes(process: psutil.Process) -> int:
    """Bytes that the process has read from files so far, cached or not."""
    for line in Path(f"/proc/{process.pid}/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "rchar":
            return int(value)
    raise RuntimeError("the kernel does not count what is read")


class PeakMemory:
    """Samples the memory of the process tree while the block runs, and asks the kernel for the service's own peak in it."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.before = 0
        self.peak = 0

    @property
    def growth(self) -> int:
        """Bytes between the value at the start and the peak."""
        return self.peak - self.before

    def __enter__(self) -> Self:
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")
        self.before = self.peak = resident_bytes(self._process)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(WAIT_SECONDS)
        self.peak = max(self.peak, self._high_water_mark())

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, resident_bytes(self._process))

    def _high_water_mark(self) -> int:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0
