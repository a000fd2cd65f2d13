"""`python -m tests.campaign.dying_server serve` (or `worker`): mediavault, instrumented to be killed.

It records its current steps on a page of shared memory, waits at the step where it is to be killed, sweeps ten times a
second, and declares workers dead after seconds.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

from app.cli import main
from app.jobs import sweeper, task_executor
from tests.campaign.effects import observe_effects
from tests.campaign.steps import SERVER_STEPS, SWEEPER_STEPS, WORK_STEPS, SharedPage

SWEEP_PAUSE_SECONDS = 0.1


def shorten_leases() -> None:
    """Let leases and heartbeats of workers over PostgreSQL expire within seconds instead of a minute."""
    from app.jobs import postgres_broker  # noqa: PLC0415 - only workers need it

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
        steps = SERVER_STEPS[os.environ["IMMICH_STORAGE_ENGINE"]]
    observe_effects(SharedPage(Path(os.environ["MEDIAVAULT_TEST_PAGE"]), steps))
    sweeper.SWEEP_INTERVAL_SECONDS = SWEEP_PAUSE_SECONDS
    main()
