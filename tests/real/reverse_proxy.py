"""A reverse proxy as a process of the tests: starts, waits until it listens, and stops."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.real.service import free_port
from tests.real.waiting import eventually

STOP_SECONDS = 10.0


class ReverseProxy:
    """Listens on `port`, a free one of 127.0.0.1. A subclass writes the configuration and names the program."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self) -> tuple[Sequence[str], Mapping[str, str] | None]:
        """Write the configuration. Returns the command and its environment; None for that of the tests. Skips the test where the
        program is not installed."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        command, environment = self.configure()
        with self._printed.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=self._folder
            )
        try:
            eventually(self._is_listening, f"{self.name} listens")
        except AssertionError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)

    @property
    def _printed(self) -> Path:
        return self._folder / f"{self.name}.out"

    def _is_listening(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._printed.read_text(encoding="utf-8")
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False
