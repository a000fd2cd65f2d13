"""`python -m tests.campaign.dying_server serve` (or `worker`): the program as it is, but its steps show on a page of shared memory, it waits
at the one where it shall be killed, it sweeps all the time, and notices the dead soon."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

from app.cli import main
from app.jobs import sweeper, task_executor
from tests.campaign.effects import observe_effects
from tests.campaign.steps import STEPS, SWEEPER_STEPS, WORK_STEPS, SharedPage

SWEEP_PAUSE_SECONDS = 0.1


def shorten_leases() -> None:
    """Within seconds in place of a minute; for workers over PostgreSQL."""
    from app.jobs import postgres_broker  # noqa: PLC0415 - not where it is not needed

    task_executor.LEASE = timedelta(seconds=6)
    task_executor.RENEW_SECONDS = 1.0
    postgres_broker.HEARTBEAT_SECONDS = 1.0
    postgres_broker.STALLED_SECONDS = 7.0
    postgres_broker.RECONCILE_SECONDS = 1.0
    postgres_broker.POLL_SECONDS = 1.0
    postgres_broker.STALLED_CRON = "* * * * * */3"


if __name__ == "__main__":
    if "worker" in sys.argv:
        steps = (*WORK_STEPS, *SWEEPER_STEPS)
        shorten_leases()
    else:
        steps = STEPS[os.environ["IMMICH_STORAGE_ENGINE"]]
    observe_effects(SharedPage(Path(os.environ["MEDIAVAULT_TEST_PAGE"]), steps))
    sweeper.SWEEP_INTERVAL_SECONDS = SWEEP_PAUSE_SECONDS
    main()
