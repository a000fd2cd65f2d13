"""`python -m tests.campaign.dying_server serve`: the service as it is, but its steps show on a page of shared memory, it waits at the
one where it shall be killed, and it sweeps all the time."""

from __future__ import annotations

import os
from pathlib import Path

import app.jobs.sweeper
from app.cli import main
from tests.campaign.effects import watch_effects
from tests.campaign.steps import STEPS, Page

SWEEP_PAUSE_SECONDS = 0.1

if __name__ == "__main__":
    watch_effects(Page(Path(os.environ["MEDIAVAULT_TEST_PAGE"]), STEPS[os.environ["IMMICH_STORAGE_ENGINE"]]))
    app.jobs.sweeper.PAUSE_SECONDS = SWEEP_PAUSE_SECONDS
    main()
