"""Runs `killed_child` in processes that the spawner forks; returns how each ended."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

from tests.campaign.killed_child import ChildOrder
from tests.real.spawning import spawner

CHILD = "tests.campaign.killed_child"
CHILD_SECONDS = 120.0


class ForkServer:
    """Runs operations in child processes that kill themselves; see `tests/campaign/killed_child.py`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.staging = folder / "staging"

    def run(
        self, settings: dict[str, str], *, effect: int, after: bool, user: str = "", **work: str | float
    ) -> tuple[int, list[str]]:
        """Returns the child's exit status (negative: the signal that killed it), and the steps that it entered."""
        steps = self._folder / "steps"
        steps.unlink(missing_ok=True)
        settings = {**settings, "MEDIAVAULT_STAGING_FOLDER": str(self.staging)}
        order = ChildOrder(settings, user, effect, after, str(steps), **work)  # pyright: ignore[reportArgumentType]
        ended = spawner().run(
            (CHILD, json.dumps(asdict(order))),
            self._folder,
            {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder), "LANG": "C.UTF-8"},
            within=CHILD_SECONDS,
            imports=(CHILD,),
        )
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr[-4000:]
        return ended.returncode, steps.read_text().splitlines() if steps.exists() else []
