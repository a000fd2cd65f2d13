"""`python -m tests.migration.backup.enumerated_kills <most>`: runs `mediavault backup create` in child processes. Each
child kills itself one step later than the previous one, until a child completes. Prints how each ended: 0, or the number of the signal.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from app.cli import cli
from app.health import markers
from app.migration.backups import backup_format, backup_store
from app.storage.local.file_writer import PendingFile
from app.storage.s3 import S3Backend
from app.storage.s3.protocol.client import S3Client
from app.storage.service import StorageService

PREPARED = (cli, markers, backup_format, S3Backend)
"""Imported once, before the children are forked."""


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


def main() -> None:
    for steps in range(1, int(sys.argv[1])):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run_and_die(steps)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(ended, flush=True)
        if ended != -signal.SIGKILL:
            return


if __name__ == "__main__":
    main()
