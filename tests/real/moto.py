"""A second S3 server for tests: `moto`, in memory, in a process of its own.

It checks no signatures, so a proxy in front of it may also change requests.
"""

from __future__ import annotations

import os
import random
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import botocore.session
from botocore.config import Config

from tests.real.s3_process import S3Process

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Moto(S3Process):
    """One server. Its data is lost when it stops."""

    def __init__(self) -> None:
        super().__init__("moto")
        self.administration: Any = None
        """A blocking botocore client."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.administration = botocore.session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.admin.access_key,
            aws_secret_access_key=self.admin.secret_key,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        return self

    def create_bucket(self) -> str:
        name = f"bucket-{random.getrandbits(48):012x}"
        self.administration.create_bucket(Bucket=name)
        return name

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        return command, os.environ | {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(64 * 1024 * 1024)}

    def _answers(self) -> bool:
        try:
            with _OPENER.open(f"{self.endpoint}/moto-api/", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False
