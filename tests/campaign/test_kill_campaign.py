"""A service is killed repeatedly at seeded moments of uploads and deletions, always on the same data.

Nothing acknowledged is lost, every stored object has a row, and a sweep makes catalogue and storage agree exactly. At
each kill one request is at a named step, before or after its effect, and the other requests are anywhere.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.consistency import assert_consistent, differences, read_state
from tests.campaign.load import LoadClient
from tests.campaign.steps import SERVER_STEPS, STEPS, SharedPage
from tests.real.notes import Note
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.waiting import eventually

SHORT_KILLS, SOAK_KILLS = 6, 200
"""The short campaign kills at so many of the steps, which the seed chooses."""
PEOPLE = 3
REACH_SECONDS = 30.0


@dataclass(slots=True)
class Campaign:
    service: Service
    page: SharedPage
    people: list[LoadClient]
    dice: random.Random

    def kill_at(self, step: str) -> list[str]:
        """Let the clients work, kill the service at `step`, and return the steps that it was in."""
        for client in self.people:
            client.begin()
        self.page.aim(step, self.dice.randrange(1, 4), after=self.dice.random() < 0.5)
        eventually(lambda: self.page.reached, f"the service comes to {step!r}", within=REACH_SECONDS)
        time.sleep(self.dice.uniform(0, 0.03))
        self.service.kill()
        for client in self.people:
            client.end()
        return self.page.inside()

    def check(self, *, sweep_first: bool) -> None:
        """Check the data that the killed service left, and the next service on them."""
        found = differences(read_state(self.service.stack), exact=False)
        assert not found, "\n".join(found)
        if sweep_first:
            self.check_swept()
        self.start()
        for client in self.people:
            client.check()

    def start(self) -> None:
        self.page.clear()
        self.service.start()

    def check_swept(self) -> None:
        sweep_everything(self.service)
        assert_consistent(self.service.stack, exact=True)
        assert self.service.stack.leftovers() == []


@pytest.fixture
def campaign(stack: Engine, stacks: Stacks, tmp_path: Path, seed: int) -> Iterator[Campaign]:
    dice = random.Random(seed)
    page = tmp_path / "page"
    service = Service(
        stacks.create(stack, tmp_path / "service"),
        settings={"MEDIAVAULT_TEST_PAGE": str(page)},
        program=("-m", "tests.campaign.dying_server", "serve", "--no-worker"),
    )
    shared = SharedPage(page, SERVER_STEPS[stack])
    campaign = Campaign(service, shared, [], dice)
    campaign.start()
    campaign.people += [LoadClient(service, service.people.add(), dice.randrange(2**32)) for _ in range(PEOPLE)]
    yield campaign
    service.kill()
    service.people.close()


def test_nothing_is_lost_however_often_it_is_killed(
    campaign: Campaign, stack: Engine, soak: bool, seed: int, note: Note
) -> None:
    steps = campaign.dice.sample(STEPS[stack], len(STEPS[stack]))
    if not soak:
        del steps[SHORT_KILLS:]
    kills = max(SOAK_KILLS, len(steps)) if soak else len(steps)
    hit: Counter[str] = Counter()

    for number in range(kills):
        step = steps[number % len(steps)]
        inside = campaign.kill_at(step)
        assert step in inside
        hit.update(inside)
        campaign.check(sweep_first=number % 2 == 0)
    campaign.service.stop()
    campaign.check_swept()

    shown = ", ".join(f"{step} {hit[step]}" for step in steps)
    note(f"{kills} kills of {stack}: {shown} (seed {seed})")
    assert all(hit[step] for step in steps), hit
