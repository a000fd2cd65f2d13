"""An S3 server as a child process on a free port of 127.0.0.1: started, waited for, ended. What moto and rclone have in common."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.real.seaweedfs import Identity

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class S3Process:
    """One server. `name` is that of its only identity."""

    def __init__(self, name: str) -> None:
        self.port = 0
        self.admin = Identity(name, "testkey", "testsecret", ())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Raises `RuntimeError` when it does not answer within half a minute, `FileNotFoundError` where it is not installed."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command, environment = self._command()
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"{self.admin.name} does not answer")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self._process.kill()
            self._process.wait()

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str] | None]:
        """The command that listens on `port`, and its environment (None: this process's)."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether it takes connections."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False
