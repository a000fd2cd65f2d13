"""Runs a mediavault service as a process, as an operator does: `python -m app.cli serve` with settings in the environment.

Calls block, with time limits.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from tests.real.accounts import Account, AccountFactory
from tests.real.secrets import record_log
from tests.real.spawning import SpawnedProcess, spawner
from tests.real.stacks import Stack

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0
UNVERIFIED = False
"""Value of httpx's `verify`. No TLS is used, and loading the trusted certificates takes longer than most requests."""
COMMAND = ("-m", "app.cli", "serve", "--no-worker")
"""Without tasks, because most tests upload bytes that are no photo."""
WORKING = ("-m", "app.cli", "serve")
"""The default command, which also runs tasks."""


class Service:
    """One service on `stack`.

    `settings` override those of the stack; `program` replaces `-m app.cli serve`; `wrap` is a command before the interpreter (such as strace).
    With `spawned` the service is forked from a process that has imported its modules, which is cheap. Without it, or with a `wrap` or a program
    that is no module, a new interpreter is started.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        settings: Mapping[str, str] | None = None,
        program: Sequence[str] = COMMAND,
        wrap: Sequence[str] = (),
        spawned: bool = True,
    ) -> None:
        self.stack = stack
        self.port = free_port()
        self.settings = {
            **stack.settings,
            "IMMICH_HOST": "127.0.0.1",
            "IMMICH_PORT": str(self.port),
            "IMMICH_LOG_LEVEL": "verbose",
            "MEDIAVAULT_DRAIN_DELAY": "0",
            "MEDIAVAULT_DRAIN_SECONDS": "2",
            "MEDIAVAULT_BACKUP_HOURS": "0",  # no backups: some tests compare all stored objects
            **(settings or {}),
        }
        self.people = AccountFactory(stack)
        self._program = program
        self._wrap = wrap
        self._spawned = spawned and not wrap and program[0] == "-m"
        self._process: subprocess.Popen[bytes] | SpawnedProcess | None = None
        self.log_path = record_log(stack.folder / f"service-{self.port}.log")
        self._output = stack.folder / f"service-{self.port}.out"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind:
            self.kill()
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> psutil.Process:
        """The service's process, also below a `wrap` command."""
        if self._process is None:
            raise RuntimeError("the service was not started")
        outer = psutil.Process(self._process.pid)
        for process in (outer, *outer.children(recursive=True)):
            if Path(process.exe()).resolve() == Path(sys.executable).resolve():
                return process
        raise RuntimeError("the service does not run")

    @property
    def log(self) -> str:
        """Its standard error so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def output(self) -> str:
        """Its standard output so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def start(self, *, ready: bool = True) -> None:
        """Start it and wait until it is ready (without `ready`, until it listens). Raises `RuntimeError` with the end of the log if it ends or takes
        more than a minute."""
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        with self.client(timeout=5) as client:
            while time.monotonic() < deadline and self.running:
                with suppress(httpx.HTTPError):
                    if client.get("/readyz" if ready else "/livez", headers={"connection": "close"}).status_code == 200:
                        return
                time.sleep(0.02)
        reason = "is not ready in time" if self.running else "has ended"
        self.kill()
        raise RuntimeError(f"the service {reason}:\n{self.log[-4000:]}{self.output[-1000:]}")

    def launch(self) -> subprocess.Popen[bytes] | SpawnedProcess:
        """Start the process without waiting."""
        if self.running:
            raise RuntimeError("the service runs already")
        self.stack.folder.mkdir(parents=True, exist_ok=True)
        if self._spawned:
            self._process = spawner().spawn(
                self._program[1:], self.stack.folder, self.environment, self._output, self.log_path
            )
            return self._process
        with self.log_path.open("ab") as log, self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._wrap, sys.executable, *self._program],
                cwd=self.stack.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        return self._process

    @property
    def environment(self) -> dict[str, str]:
        """The process's whole environment. Only PATH is inherited from the tests."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.stack.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            **self.settings,
        }

    def stop(self, sent_signal: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status (negative: a signal). Kills it after a time limit."""
        if self._process is None:
            raise RuntimeError("the service was not started")
        if self._process.poll() is None:
            with suppress(psutil.Error, RuntimeError):
                self.process.send_signal(sent_signal)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; returns the exit status. Kills it after a time limit."""
        if self._process is None:
            raise RuntimeError("the service was not started")
        try:
            if isinstance(self._process, SpawnedProcess):
                return self._process.wait_or_explain(STOP_SECONDS, self.log_path)
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL to the service's process group."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_SECONDS)

    def restart(self) -> None:
        """Start again on the same data. A running service is stopped first."""
        if self.running:
            self.stop()
        self.start()

    def close(self) -> None:
        """Stop it for good."""
        if self.running:
            self.stop()
        self.people.close()

    def run(
        self, *arguments: str, stdin: str | None = None, within: float = START_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run `mediavault <arguments>` with the settings of this service, at most `within` seconds."""
        program = ("-m", "app.cli", *arguments)
        if stdin is None:
            return spawner().run(program[1:], self.stack.folder, self.environment, within=within)
        return subprocess.run(
            [sys.executable, *program],
            cwd=self.stack.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def client(self, account: Account | None = None, *, timeout: float = 30.0) -> httpx.Client:
        """A client of the service, with the key of `account`; the caller closes it."""
        headers = {"x-api-key": account.key} if account else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False, verify=UNVERIFIED)

    def async_client(self, account: Account | None = None, *, timeout: float = 30.0) -> httpx.AsyncClient:
        """Like `client`, for coroutines."""
        headers = {"x-api-key": account.key} if account else {}
        return httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=timeout, trust_env=False, verify=UNVERIFIED
        )


def free_port() -> int:
    """A free port of 127.0.0.1 outside the range of outgoing connections, so that no connection takes it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(12000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
