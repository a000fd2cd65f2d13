"""A real lighttpd as reverse proxy before a service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.real.service import free_port
from tests.real.waiting import eventually

STOP_SECONDS = 10.0
CONFIGURATION = """
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{folder}/lighttpd.log"
server.pid-file = "{folder}/lighttpd.pid"
server.upload-dirs = ( "{folder}" )
server.document-root = "{folder}/nothing"
{text}
"""


class Lighttpd:
    """`text`: the part of the configuration that concerns the service. It listens on a free port."""

    def __init__(self, folder: Path, text: str) -> None:
        self.port = free_port()
        self._text = CONFIGURATION.format(folder=folder, port=self.port, text=text)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which("lighttpd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("no lighttpd here: install the package lighttpd")
        (self._folder / "nothing").mkdir()
        (self._folder / "lighttpd.conf").write_text(self._text, encoding="utf-8")
        with (self._folder / "lighttpd.out").open("wb") as output:
            command = [program, "-D", "-f", str(self._folder / "lighttpd.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            eventually(self._is_listening, "lighttpd listens")
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
        assert self._process.poll() is None, (self._folder / "lighttpd.out").read_text(encoding="utf-8")
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False
