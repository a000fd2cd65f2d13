"""Workers are killed repeatedly while they process photos and videos over PostgreSQL on S3. In the end every asset has
all its derivatives, every stored object has a row, and no temporary file is left."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from app.catalog.schema.records import FileKind, TaskKind
from tests.api.consistency import assert_consistent, differences, read_state
from tests.campaign.steps import SWEEPER_STEPS, WORK_STEPS, SharedPage
from tests.real.notes import Note
from tests.real.sample_media import make_jpeg, make_motion_photo, make_video
from tests.real.service import Service
from tests.real.stacks import Stacks
from tests.real.sweeping import sweep_everything
from tests.real.uploads import uploaded
from tests.real.waiting import eventually
from tests.real.worker import Worker

PICTURES = {FileKind.THUMBNAIL, FileKind.PREVIEW}
SMALL, LARGE = (3, 6), (20, 200)
"""Numbers of kills and of assets."""
STRAY = "stored without a row"
REACH_SECONDS = 20.0
DONE_SECONDS = 240.0


class DyingWorker:
    """A worker that shows its steps on a page of shared memory."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.page = SharedPage(folder / "page", (*WORK_STEPS, *SWEEPER_STEPS))
        self.worker = Worker(
            service,
            folder,
            settings={"MEDIAVAULT_TEST_PAGE": str(folder / "page")},
            program=("-m", "tests.campaign.dying_server", "worker"),
        )

    def start(self) -> None:
        self.page.clear()
        self.worker.start()

    def kill_at(self, step: str, dice: random.Random) -> list[str]:
        """Kill the worker at `step`, or anywhere if it does not reach the step in time. A worker that does not run yet is
        started. Returns the steps that it was in."""
        running = self.worker.running
        if not running:
            self.page.clear()
        self.page.aim(step, 1, after=dice.random() < 0.5)
        if not running:
            self.worker.start()
        end = time.monotonic() + REACH_SECONDS
        while not self.page.reached and time.monotonic() < end and self.worker.running:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.05))
        self.worker.kill()
        return self.page.inside()


@pytest.fixture
def service(stacks: Stacks, tmp_path: Path) -> Iterator[Service]:
    """A service that accepts uploads and runs no tasks itself."""
    with Service(stacks.create("s3", tmp_path / "service")) as service:
        yield service


@pytest.fixture
def workers(service: Service, tmp_path: Path) -> Iterator[list[DyingWorker]]:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    workers = [DyingWorker(service, folder) for folder in folders]
    yield workers
    for each in workers:
        if each.worker.running:
            each.worker.kill()


def test_every_asset_is_processed_however_often_workers_are_killed(
    service: Service, workers: list[DyingWorker], tmp_path: Path, soak: bool, seed: int, note: Note
) -> None:
    dice = random.Random(seed)
    kills, number = LARGE if soak else SMALL
    expected = upload_all(service, tmp_path, number)
    hit: Counter[str] = Counter()
    steps = dice.sample(WORK_STEPS, len(WORK_STEPS))

    for kill in range(kills):
        dying = workers[kill % 2]
        hit.update(dying.kill_at(steps[kill % len(steps)], dice))
        # Only objects without rows: the other worker continues, and what its rows name may be newer than the listing.
        found = [each for each in differences(read_state(service.stack), exact=False) if each.startswith(STRAY)]
        assert not found, found
        # The first worker dies alone, while there is certainly something to do: two may have done it all before a second kill.
        for each in workers:
            if not each.worker.running:
                each.start()

    for each in workers:
        each.page.release()
    eventually(lambda: is_done(service), "everything is processed", within=DONE_SECONDS)
    for each in workers:
        eventually(lambda worker=each.worker: worker.ready, "the worker is ready", within=DONE_SECONDS)
        assert each.worker.stop() == 0, each.worker.log[-3000:]
    shown = ", ".join(f"{step} {hit[step]}" for step in WORK_STEPS)
    note(f"{kills} kills of two workers, {number} assets: {shown} (seed {seed})")
    assert hit, "no kill hit a step"
    check(service, expected)
    assert [left for each in workers for left in each.worker.leftovers()] == []


def upload_all(service: Service, folder: Path, number: int) -> dict[str, set[FileKind]]:
    """Upload photos, every sixth with an embedded video, and videos that need transcoding. Returns the derivatives each
    must get."""
    expected: dict[str, set[FileKind]] = {}
    with service.client(service.people.add()) as client:
        for count in range(number):
            if count % 6 == 5:
                expected[uploaded(client, make_video(folder), "clip.mp4")] = {*PICTURES, FileKind.ENCODED_VIDEO}
            elif count % 6 == 2:
                expected[uploaded(client, make_motion_photo(folder)[0], "PXL.MP.jpg")] = PICTURES
            else:
                expected[uploaded(client, make_jpeg(), "photo.jpg")] = PICTURES
    return expected


def is_done(service: Service) -> bool:
    counts = service.people.call(lambda catalog: catalog.tasks.count_by_kind())
    return not any(counts[kind].pending or counts[kind].running for kind in TaskKind)


def check(service: Service, expected: dict[str, set[FileKind]]) -> None:
    failures = service.people.call(lambda catalog: catalog.tasks.get_failures())
    assert failures == []
    assets = [UUID(asset) for asset in expected]
    made = service.people.call(lambda catalog: catalog.derivatives.get_for_assets(assets))
    assert {str(asset): set(kinds) for asset, kinds in made.items()} == expected
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)
    assert service.stack.leftovers() == []
