"""Runs server processes on a core of their own, and measures their CPU time and memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 30
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Cores:
    """CPU cores of the servers, of the load, and all usable ones."""

    server: frozenset[int]
    load: frozenset[int]
    every: frozenset[int]


def choose_cores() -> Cores:
    """Two different cores, or one for both if there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(usable[:1]), frozenset(usable[1:2] or usable[:1]), frozenset(usable))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """A running server with its children."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self._main = psutil.Process(process.pid)

    def cpu_seconds(self) -> float:
        """User and system time of the process and its live children, so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self.list_processes())

    def cpu_seconds_with_ended(self) -> float:
        """Like `cpu_seconds`, plus the time of children that have ended and been waited for."""
        return sum(sum(each.cpu_times()[:4]) for each in self.list_processes())

    def resident(self) -> int:
        """Current resident memory of the process and its children in bytes."""
        return sum(each.memory_info().rss for each in self.list_processes())

    def reset_peak(self) -> None:
        """Reset the value of `peak` (see clear_refs in proc(5))."""
        for each in self.list_processes():
            Path(f"/proc/{each.pid}/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        """Peak resident memory since `reset_peak` in bytes, summed over the processes."""
        return sum(read_peak_bytes(each.pid) for each in self.list_processes())

    def list_processes(self) -> list[psutil.Process]:
        return [self._main, *self._main.children(recursive=True)]


def warm_free_memory(folder: Path, size: int) -> None:
    """Write a file of `size` bytes, and remove it. In a virtual machine, the first use of a page costs several times what the copy into it
    costs: the next upload gets the pages that are free now, whoever comes next."""
    path = folder / "warm"
    piece = bytes(1024**2)
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(piece)):
            file.write(piece)
    path.unlink()


def read_peak_bytes(pid: int) -> int:
    """Peak resident memory of the process in bytes. (`ru_maxrss` is no substitute: it begins with the value of the parent process.)"""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def run_server(
    command: Sequence[str | Path],
    *,
    port: int,
    cores: Cores,
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
) -> Iterator[ServerProcess]:
    """Start `command` on the server's core, wait until it listens, and terminate it at the end. Settings of mediavault are not inherited."""
    inherited = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=inherited | {"PYTHONPATH": str(ROOT), "MEDIAVAULT_DRAIN_DELAY": "0"} | dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    os.sched_setaffinity(process.pid, cores.server)
    try:
        _await_listening(process, port, log)
        for child in psutil.Process(process.pid).children(recursive=True):
            os.sched_setaffinity(child.pid, cores.server)
        yield ServerProcess(process, port)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def build_uvicorn_command(application: str, port: int) -> list[str | Path]:
    """The command that serves `application` with production options."""
    return [
        *(sys.executable, "-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ]


def _await_listening(process: subprocess.Popen[str], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"a server did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


def _is_setting(name: str) -> bool:
    return name.startswith(("IMMICH_", "MEDIAVAULT_", "S3_", "DB_URL"))
