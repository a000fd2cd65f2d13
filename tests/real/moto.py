"""A second S3 server for tests: `moto`, in memory, on a free port of 127.0.0.1, in a process of its own.

It checks no signatures, so a proxy in front of it may also change requests.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any, Self

import botocore.session
from botocore.config import Config

from tests.real.seaweedfs import Identity

START_SECONDS = 30.0
STOP_SECONDS = 10.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_IDENTITY = Identity("moto", "testkey", "testsecret", ())


class Moto:
    """One server. Its data is lost when it stops."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.admin = _IDENTITY
        self.administration: Any = None
        """A blocking botocore client."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Raises `RuntimeError` when it does not answer within half a minute."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(64 * 1024 * 1024)},
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("moto does not answer")
            time.sleep(0.05)
        self.administration = botocore.session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.admin.access_key,
            aws_secret_access_key=self.admin.secret_key,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self._process.kill()
            self._process.wait()

    def create_bucket(self) -> str:
        name = f"bucket-{random.getrandbits(48):012x}"
        self.administration.create_bucket(Bucket=name)
        return name

    def _answers(self) -> bool:
        try:
            with _OPENER.open(f"{self.endpoint}/moto-api/", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False
