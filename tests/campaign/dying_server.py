"""`python -m tests.campaign.dying_server serve` (or `worker`): the program as it is, but its steps show on a page of shared memory, it waits
at the one where it shall be killed, it sweeps all the time, and notices the dead soon."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

from app.cli import main
from app.jobs import attempts, sweeper
from tests.campaign.effects import watch_effects
from tests.campaign.steps import STEPS, SWEEPER_STEPS, WORK_STEPS, Page

SWEEP_PAUSE_SECONDS = 0.1


def notice_the_dead_soon() -> None:
    """Within seconds in place of a minute; for workers over PostgreSQL."""
    from app.jobs import broker  # noqa: PLC0415 - not where it is not needed

    attempts.LEASE = timedelta(seconds=6)
    attempts.RENEW_SECONDS = 1.0
    broker.HEARTBEAT_SECONDS = 1.0
    broker.STALLED_SECONDS = 7.0
    broker.RECONCILE_SECONDS = 1.0
    broker.POLL_SECONDS = 1.0
    broker.STALLED_CRON = "* * * * * */3"


if __name__ == "__main__":
    if "worker" in sys.argv:
        steps = (*WORK_STEPS, *SWEEPER_STEPS)
        notice_the_dead_soon()
    else:
        steps = STEPS[os.environ["IMMICH_STORAGE_ENGINE"]]
    watch_effects(Page(Path(os.environ["MEDIAVAULT_TEST_PAGE"]), steps))
    sweeper.PAUSE_SECONDS = SWEEP_PAUSE_SECONDS
    main()
