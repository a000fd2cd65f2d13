"""The client of `fork_server`: sends it orders, and returns how each child ended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO

from tests.campaign.fork_server import ChildOrder
from tests.real.service import ROOT


class ForkServer:
    """Runs operations in child processes that kill themselves; see `tests/campaign/fork_server.py`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.staging = folder / "staging"
        self._errors = (folder / "children.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.fork_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def run(
        self, settings: dict[str, str], *, effect: int, after: bool, user: str = "", **work: str | float
    ) -> tuple[int, list[str]]:
        """Returns the child's exit status (negative: the signal that killed it), and the steps that it entered."""
        steps = self._folder / "steps"
        steps.unlink(missing_ok=True)
        settings = {**settings, "MEDIAVAULT_STAGING_FOLDER": str(self.staging)}
        order = ChildOrder(settings, user, effect, after, str(steps), **work)  # pyright: ignore[reportArgumentType]
        print(json.dumps(asdict(order)), file=_pipe(self._process.stdin), flush=True)
        status = int(_pipe(self._process.stdout).readline())
        assert status in (0, -signal.SIGKILL), (self._folder / "children.log").read_text()[-4000:]
        return status, steps.read_text().splitlines() if steps.exists() else []

    def close(self) -> None:
        _pipe(self._process.stdin).close()
        self._process.wait(30)
        _pipe(self._process.stdout).close()
        self._errors.close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
