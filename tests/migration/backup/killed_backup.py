"""`python -m tests.migration.backup.killed_backup <step>`: runs `mediavault backup create`, and kills itself before the step with this number."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from app.cli import cli
from app.migration.backups import backup_store
from app.storage.local.file_writer import PendingFile
from app.storage.s3.protocol.client import S3Client
from app.storage.service import StorageService


class KillCountdown:
    """Counts steps down, and kills the process at the last one."""

    def __init__(self, left: int) -> None:
        self.left = left

    def watch(self, owner: Any, name: str) -> None:
        """Count each call of the function before it is made."""
        original: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(owner, name, counted)


def run_and_die(steps: int) -> None:
    countdown = KillCountdown(steps)
    for owner, names in (
        (PendingFile, ("write", "commit", "_sync", "_rename")),
        (S3Client, ("put", "create_upload", "upload_part", "complete")),
        (StorageService, ("write", "read", "rename", "unlink", "list_managed")),
        (backup_store, ("write_backup", "read_backup", "list_backups")),
    ):
        for name in names:
            countdown.watch(owner, name)
    cli(["backup", "create"], standalone_mode=False)


if __name__ == "__main__":
    run_and_die(int(sys.argv[1]))
