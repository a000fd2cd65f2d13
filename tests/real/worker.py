"""Runs `mediavault worker` as a process beside a service. Calls block, with time limits."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.real.secrets import record_log
from tests.real.service import Service
from tests.real.spawning import SpawnedProcess, spawner
from tests.real.waiting import eventually

STOP_SECONDS = 30.0
READY = "the worker is ready"
COMMAND = ("-m", "app.cli", "worker")


class Worker:
    """A worker for the tasks of `service`, with its settings and a staging folder of its own; `with` starts and stops it."""

    def __init__(
        self,
        service: Service,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        program: Sequence[str] = COMMAND,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.staging = folder / "staging"
        self.log_path = record_log(folder / "worker.log")
        self._folder = folder
        self._program = program
        self._environment = {
            **service.environment,
            "MEDIAVAULT_STAGING_FOLDER": str(self.staging),
            **(settings or {}),
        }
        self._process: SpawnedProcess | None = None
        self._log_before = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill() if kind else self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._started.pid)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def ready(self) -> bool:
        """True if it has become ready since its last start. Before that, a signal ends it without a clean stop."""
        return READY in self.log[self._log_before :]

    def start(self) -> None:
        self._log_before = len(self.log) if self.log_path.exists() else 0
        self._process = spawner().spawn(
            self._program[1:], self._folder, self._environment, self.log_path, self.log_path
        )

    def stop(self, sent_signal: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        process = self._started
        process.send_signal(sent_signal)
        try:
            return process.wait_or_explain(STOP_SECONDS, self.log_path)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL to the worker only; asserts that its child processes end by themselves."""
        process = self._started
        children: list[psutil.Process] = []
        with suppress(psutil.Error):
            children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)
        eventually(lambda: not any(map(_alive, children)), "what a killed worker had started ends")

    def leftovers(self) -> list[str]:
        """Files in its staging folder."""
        return [str(path) for path in self.staging.rglob("*") if path.is_file()]

    @property
    def _started(self) -> SpawnedProcess:
        if self._process is None:
            raise RuntimeError("the worker was not started")
        return self._process


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
