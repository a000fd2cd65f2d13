"""A service is killed at every effect of resumable uploads on catalogue, storage and client, before it and after it, and at random moments.

The uploads speak tus, the newest version of the IETF draft and an older one. After each kill the client goes on where the service says. No byte that was acknowledged is sent again; in the end each file is whole, and
nothing else is left.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from tests.api.consistency import assert_consistent, differences, read_state
from tests.campaign.resuming_client import ResumingClient
from tests.campaign.steps import SERVER_STEPS, SESSION_STEPS, SharedPage
from tests.campaign.upload_speakers import NEWEST_VERSION, OLDER_VERSIONS, IetfSpeaker, TusSpeaker, UploadSpeaker
from tests.real.accounts import Account
from tests.real.notes import Note
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.waiting import eventually

SIZES = {"local": 300_000, "s3": 8_600_000}
ENDS = (1_000, 70_000, 200_000)
"""Where requests end: in the head, after it, again. The last one, on S3, fills a part of 8 MiB and sends another one."""
KILLS_ANYWHERE = 10
SOAK_KILLS_ANYWHERE = SOAK_KILLS_DRAWN = 200
REACH_SECONDS = 30.0
LIFE_SECONDS = 0.25
"""An undisturbed upload takes about so long."""
BETWEEN = "between two steps"


@dataclass(frozen=True, slots=True)
class KillMoment:
    """Before or after the effect of `step`, when the service enters it for the `entry`-th time."""

    step: str
    entry: int
    is_after: bool


@dataclass
class Campaign:
    service: Service
    page: SharedPage
    steps: tuple[str, ...]
    account: Account
    client: ResumingClient
    dice: random.Random
    speakers: list[UploadSpeaker]

    def kill_at(self, moment: KillMoment, new_by: UploadSpeaker | None = None) -> list[str]:
        """Kill the service at `moment`, during a new upload by `new_by` after the unfinished one is complete, or else during the unfinished
        one. Returns the step."""
        self.start()
        if new_by is not None:
            if self.client.current.location:
                self.client.complete()
            self.client.prepare(ENDS, new_by)
        self.page.aim(moment.step, moment.entry, after=moment.is_after)

        def wait() -> None:
            eventually(lambda: self.page.reached, f"the service comes to {moment}", within=REACH_SECONDS)
            time.sleep(self.dice.choice((0, 0, 0.01, 0.03)))  # parts that are being sent may arrive

        self._work_and_kill(wait)
        assert moment.step in self.page.inside()
        return [moment.step]

    def kill_at_every_effect(self) -> list[str]:
        """Returns the steps."""
        steps: list[str] = []
        for is_after, speaker in zip((False, True), self.speakers, strict=False):
            for step in self.steps:
                is_first = step is self.steps[0]
                steps += self.kill_at(KillMoment(step, 1, is_after), speaker if is_first else None)
        return steps

    def kill_at_every_entry(self) -> list[str]:
        """Returns the steps."""
        steps: list[str] = []
        for speaker in {speaker.name: speaker for speaker in self.speakers}.values():
            for step, entries in self.count_entries(speaker).items():
                for entry in range(1, entries + 1):
                    for is_after in (False, True):
                        steps += self.kill_at(KillMoment(step, entry, is_after), speaker)
        return steps

    def kill_anywhere(self) -> list[str]:
        """Returns the steps that the service was in."""
        self.start()
        self._work_and_kill(lambda: time.sleep(self.dice.uniform(0, LIFE_SECONDS)))
        return [step for step in self.page.inside() if step in self.steps] or [BETWEEN]

    def count_entries(self, speaker: UploadSpeaker) -> dict[str, int]:
        """How often one upload enters each step."""
        self.start()
        if self.client.current.location:
            self.client.complete()
        self.client.prepare(ENDS, speaker)
        before = {step: self.page.count(step) for step in self.steps}
        self.client.complete()
        entries = {step: self.page.count(step) - before[step] for step in self.steps}
        self.service.kill()
        return entries

    def start(self) -> None:
        self.page.clear()
        self.service.start()

    def _work_and_kill(self, wait: Callable[[], None]) -> None:
        def kill() -> None:
            try:
                wait()
            finally:
                self.service.kill()

        with ThreadPoolExecutor(1) as threads:
            killing = threads.submit(kill)
            self.client.work_until_death()
            killing.result(REACH_SECONDS)
        found = differences(read_state(self.service.stack), exact=False)
        assert not found, "\n".join(found)
        self._delete_completed()

    def _delete_completed(self) -> None:
        """So that a campaign needs little space."""
        found = [upload for upload in self.client.completed if upload.asset]
        ids = [UUID(upload.asset) for upload in found]
        self.service.people.call(lambda catalog: catalog.assets.delete(self.account.id, ids))
        for upload in found:
            upload.asset, upload.data = "", b""

    def check(self) -> str:
        """Complete what is unfinished; nothing is left afterwards but the file. Returns what was sent."""
        self.start()
        self.client.complete()
        with self.service.client(self.account) as client:
            assert client.get("/api/assets/statistics").json()["total"] == 1
        self.service.stop()
        sweep_everything(self.service)
        assert_consistent(self.service.stack, exact=True)
        assert self.service.stack.leftovers() == []
        uploads = self.client.completed
        assert sum(upload.repeated for upload in uploads) == 0
        protocols = Counter(upload.protocol for upload in uploads)
        assert len(protocols) >= 2, protocols
        shown = ", ".join(f"{count} by {protocol}" for protocol, count in protocols.items())
        return (
            f"uploads: {shown}, {sum(upload.sent for upload in uploads)} bytes sent, none of them acknowledged before"
        )


def choose_speakers(dice: random.Random) -> list[UploadSpeaker]:
    """tus and the draft in turns."""
    versions = [NEWEST_VERSION, dice.choice(OLDER_VERSIONS)]
    dice.shuffle(versions)
    speakers: list[UploadSpeaker] = [TusSpeaker(), IetfSpeaker(versions[0]), TusSpeaker(), IetfSpeaker(versions[1])]
    return speakers[1:] + speakers[:1] if dice.random() < 0.5 else speakers


@pytest.fixture
def campaign(stack: Engine, stacks: Stacks, tmp_path: Path, seed: int) -> Iterator[Campaign]:
    dice = random.Random(seed)
    page = tmp_path / "page"
    service = Service(
        stacks.create(stack, tmp_path / "service"),
        settings={"MEDIAVAULT_TEST_PAGE": str(page)},
        program=("-m", "tests.campaign.dying_server", "serve", "--no-worker"),
    )
    account = service.people.add()
    speakers = choose_speakers(dice)
    client = ResumingClient(service, account, SIZES[stack], dice, speakers)
    yield Campaign(
        service, SharedPage(page, SERVER_STEPS[stack]), SESSION_STEPS[stack], account, client, dice, speakers
    )
    service.kill()
    service.people.close()


def test_uploads_survive_kills_at_every_effect_and_at_random_moments(
    campaign: Campaign, stack: Engine, soak: bool, seed: int, note: Note
) -> None:
    """In the short run one upload is killed before each effect, and one by another protocol after each, the first time that it comes to the
    effect; in the long run, by each protocol, one upload for each time, and then uploads whose requests end anywhere."""
    hit: Counter[str] = Counter()
    dice, client = campaign.dice, campaign.client
    hit.update(campaign.kill_at_every_entry() if soak else campaign.kill_at_every_effect())

    drawn = [dice.choice(campaign.steps) for _ in range(SOAK_KILLS_DRAWN if soak else 0)]
    anywhere = [None] * (SOAK_KILLS_ANYWHERE if soak else KILLS_ANYWHERE)
    for step in dice.sample([*drawn, *anywhere], len(drawn) + len(anywhere)):
        if not client.current.location:
            client.prepare(tuple(sorted(dice.sample(range(1, SIZES[stack]), 3))))
        if step is None:
            hit.update(campaign.kill_anywhere())
        else:
            moment = KillMoment(step, dice.randrange(1, 4), dice.random() < 0.5)
            hit.update(campaign.kill_at(moment))

    shown = ", ".join(f"{step} {hit[step]}" for step in (*campaign.steps, BETWEEN))
    note(f"kills of uploads on {stack}: {shown} (seed {seed}); {campaign.check()}")
    assert all(hit[step] >= 2 for step in campaign.steps), hit
