"""Client of `spawner`: starts processes by forking one that has imported the service's modules."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

from tests.real.spawner import STACKS_SIGNAL, Order

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.005
END_SECONDS = 10.0
STACKS_SECONDS = 3.0
SHOWN_CHARACTERS = 12_000


class SpawnedProcess:
    """The part of `subprocess.Popen` that tests need."""

    def __init__(self, pid: int, program: Sequence[str], status: Path) -> None:
        self.pid = pid
        self._program = program
        self._status = status
        self._returncode: int | None = None
        self._reading = threading.Lock()

    def poll(self) -> int | None:
        """The exit status (negative: killed by that signal); None while it runs."""
        with self._reading:  # tests watch a process from several threads
            if self._returncode is None and self._status.exists():
                self._returncode = int(self._status.read_text())
                self._status.unlink()
            return self._returncode

    def wait(self, timeout: float) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self._program, timeout)
            time.sleep(POLL_SECONDS)
        return status

    def wait_or_explain(self, timeout: float, errors: Path) -> int:
        """As `wait`; the error shows what the process does instead of ending: the end of its standard error, with the stacks of its threads
        and tasks."""
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.send_signal(STACKS_SIGNAL)
            with suppress(subprocess.TimeoutExpired):
                self.wait(STACKS_SECONDS)
            error.add_note(errors.read_text(errors="replace")[-SHOWN_CHARACTERS:])
            raise

    def send_signal(self, sent_signal: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, sent_signal)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Spawner:
    """Forks processes. The spawner ends with the process that created it; the forked processes do not."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="spawner-"))
        self._lock = threading.Lock()
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.real.spawner"],
            cwd=ROOT,
            env={
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(self._folder),
                "LANG": "C.UTF-8",
                "PYTHONPATH": str(ROOT),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def spawn(
        self,
        program: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
        errors: Path,
        *,
        imports: Sequence[str] = (),
    ) -> SpawnedProcess:
        """Start `python -m <program>` in `folder`; its output is appended to the files `output` and `errors`. The modules `imports` are
        imported by the spawner, once."""
        for path in (output, errors):
            path.touch()
        with self._lock:
            self._count += 1
            status = self._folder / str(self._count)
            order = Order([*program], str(folder), {**environment}, str(output), str(errors), str(status), [*imports])
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            print(json.dumps(asdict(order)), file=self._process.stdin, flush=True)
            return SpawnedProcess(int(self._process.stdout.readline()), program, status)

    def run(
        self,
        program: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        within: float,
        imports: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Like `spawn`, and wait for the end. After `within` seconds it is killed; raises `subprocess.TimeoutExpired`."""
        with tempfile.TemporaryDirectory(dir=self._folder) as written:
            output, errors = Path(written, "output"), Path(written, "errors")
            process = self.spawn(program, folder, environment, output, errors, imports=imports)
            try:
                status = process.wait(within)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(END_SECONDS)
                raise
            return subprocess.CompletedProcess(program, status, output.read_text(), errors.read_text())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(END_SECONDS)
        self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@cache
def spawner() -> Spawner:
    """The spawner of this process, started at first use."""
    created = Spawner()
    atexit.register(created.close)
    return created
