"""Clients use an installation of many processes, while these are killed and stopped, PostgreSQL is restarted, and the store pauses.

What was acknowledged is there and right everywhere, no client ever got a wrong byte, and what was revoked and deleted is refused everywhere after
five seconds.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.real.elections import assert_never_two, find_longest_gap, read_terms
from tests.real.notes import Note
from tests.real.seaweedfs import SeaweedFS
from tests.scale.checks import RefusalCheck, check_everything
from tests.scale.faults import FaultSchedule, Plan
from tests.scale.installation import own_database, running_installation
from tests.scale.load import KINDS, Load
from tests.scale.request_log import Outcome

SHORT = Plan(seconds=8, longest_stop=4, store_pause=2, outages=1, pause=0.5)
LONG = Plan(seconds=1200, longest_stop=8, store_pause=10, outages=4, pause=2)
SHORT_PAUSE, LONG_PAUSE = 0.5, 0.2
"""Of a client between two actions, in seconds."""
MOST_FAILED_SHARE = 0.3
MOST_SECONDS_WITHOUT_ANSWER = 25.0


def test_nothing_is_lost_or_wrong_whatever_is_killed(
    tmp_path: Path, seaweedfs: SeaweedFS, soak: bool, seed: int, note: Note
) -> None:
    dice = random.Random(seed)
    with (
        own_database(tmp_path, seaweedfs) as (stack, postgres),
        running_installation(tmp_path, stack) as installation,
    ):
        load = Load(installation.url, installation.api[0].people, dice, pause=LONG_PAUSE if soak else SHORT_PAUSE)
        refusals = RefusalCheck(installation.api, load.libraries)
        schedule = FaultSchedule(installation, postgres, seaweedfs, LONG if soak else SHORT, dice)
        refusals.begin()
        with load.running():
            schedule.run(lambda: load.has_failed or refusals.has_failed)
        refusals.end()
        assets = check_everything(installation, load.libraries)

    note(f"{load.log.describe()}; {assets} assets in the end, {refusals.count} refusals of what was revoked or deleted")
    for line in schedule.describe():
        note(line)
    assert schedule.find_missed() == set()
    assert load.log.kinds >= KINDS
    failed = load.log.count(*(outcome for outcome in Outcome if outcome is not Outcome.WHOLE))
    assert failed < MOST_FAILED_SHARE * load.log.count(*Outcome)
    assert load.log.longest_outage < MOST_SECONDS_WITHOUT_ANSWER
    terms = read_terms(installation.logs, installation.killed)
    note(f"work of one process: {sum(map(len, terms.values()))} terms, nobody for {find_longest_gap(terms)} at most")
    assert_never_two(terms, installation.stops)
