"""`python -m tests.scale.observed_program serve` (or `worker`): mediavault, which shows on a page of shared memory what it is doing.

Leases of workers and pauses before new attempts are seconds instead of a minute, so that a campaign waits for none of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.api.http.application import ApiApplication
from app.cli import main
from app.jobs import retries, sweeper
from tests.campaign import effects
from tests.campaign.dying_server import shorten_leases
from tests.campaign.steps import SharedPage
from tests.scale.activities import PAGE_STEPS, name_request

SWEEP_PAUSE_SECONDS = 1.0
AIMED_SECONDS = 2.0
"""How long a process waits at the step where it is to be disturbed."""


def _name_http_request(_application: ApiApplication, scope: dict[str, Any], *_: Callable[..., Any]) -> str | None:
    return name_request(scope["method"], scope["path"], scope["headers"])


if __name__ == "__main__":
    page = SharedPage(Path(os.environ["MEDIAVAULT_TEST_PAGE"]), PAGE_STEPS)
    effects.WAIT_SECONDS = AIMED_SECONDS
    effects.observe_effects(page)
    if "worker" in sys.argv:
        shorten_leases()
    else:
        setattr(ApiApplication, "_http", effects.observe_coroutine(ApiApplication._http, _name_http_request, page))  # noqa: B010
    retries.MIN_RELEASE_DELAY = timedelta(seconds=1)
    retries.MAX_RELEASE_DELAY = timedelta(seconds=2)
    sweeper.SWEEP_INTERVAL_SECONDS = SWEEP_PAUSE_SECONDS
    main()
