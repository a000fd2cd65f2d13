"""Kills `migrate run` over foreign files, and their adoption, at every single effect (at one in four outside the long campaigns), and at random
moments. Afterwards no object is without a row, the same command completes the work, nothing is copied twice, and not a byte of the other program's files has changed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.catalog.errors import MigrationBusy
from app.config import StorageEngine
from app.migration.step_progress import SilentProgress
from app.migration.steps.adopt_step import adopt_foreign_files, make_adoption_context
from app.migration.steps.run_step import run_move
from tests.api.consistency import assert_consistent, differences, read_state
from tests.campaign.fork_client import ForkServer
from tests.migration.library import Library
from tests.real.foreign_files import ForeignTree
from tests.real.notes import Note
from tests.real.stacks import Stacks
from tests.real.waiting import eventually_so

MANY_EFFECTS = 80
SHORT_STRIDE = 4
SHORT_ROUNDS, SOAK_ROUNDS = 3, 100
CONCURRENCY = 3
LONGEST_PAUSE = 0.03
"""Seconds from the chosen effect to the kill."""
LOCK_SECONDS = 20.0
COPYING = ["migration begun", "checksums stored", "files planned", "copies begun", "outcomes recorded", "copies kept"]
COMMANDS = {
    "run": (run_move.__name__, [*COPYING, "migration finished"]),
    "adopt": (
        adopt_foreign_files.__name__,
        [*COPYING, "migration finished", "files adopted", "folders forgotten"],
    ),
}
WRITTEN = {StorageEngine.LOCAL: "file named", StorageEngine.S3: "object put"}


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> ForkServer:
    return ForkServer(tmp_path_factory.mktemp("nursery"))


@dataclass(slots=True)
class ForeignTrial:
    """Kills one command over two assets, repeatedly: one with a sidecar that has no checksum yet."""

    library: Library
    tree: ForeignTree
    nursery: ForkServer
    command: str

    async def prepare(self) -> None:
        self.tree.assets.clear()
        for sidecar in (True, False):
            await self.tree.add(self.library.catalog, self.library.owner, sidecar=sidecar, derivatives=False)
        for storage in (self.library.source, self.library.storage):
            storage.set_foreign_roots([str(self.tree.root)])

    async def die(self, effect: int, *, after: bool, concurrency: int = 1, pause: float = 0.0) -> tuple[int, list[str]]:
        """See `ChildOrder`."""
        settings = {
            **self.library.stack.settings,
            "IMMICH_STORAGE_ENGINE": self.library.to.value,
            "MEDIAVAULT_FSYNC": "false",
        }
        return await asyncio.to_thread(
            self.nursery.run,
            settings,
            effect=effect,
            after=after,
            command=self.command,
            concurrency=concurrency,
            pause=pause,
        )

    async def complete(self) -> None:
        """Run the command to its end. PostgreSQL notices the death of the lock's holder with a delay."""

        async def is_done() -> bool:
            try:
                if self.command == run_move.__name__:
                    assert (await run_move(self.library.work())).problems.count == 0
                else:
                    catalog, storage = self.library.catalog, self.library.storage
                    report = await adopt_foreign_files(make_adoption_context(catalog, storage, SilentProgress()))
                    assert (report.problems.count, report.left) == (0, 0)
            except MigrationBusy:
                return False
            return True

        await eventually_so(is_done, "the lock of a dead process is released", within=LOCK_SECONDS)

    async def check(self, where: str) -> None:
        found = differences(read_state(self.library.stack), exact=False)
        assert not found, f"{where}: {found}"
        await self.complete()
        files = [file async for file in self.library.catalog.files.iterate_all()]
        base = self.library.target_base
        if self.command == run_move.__name__:
            copies = [file.copy_path for file in files if file.is_foreign]
            assert len(copies) == 3, where
            assert all(path is not None and path.startswith(base) for path in copies), where
        else:
            assert {(file.is_foreign, file.path.startswith(base)) for file in files} == {(False, True)}, where
            assert await self.library.catalog.foreign_files.list_roots() == [], where
        assert len(self.library.at_target()) == 3, f"{where}: something was copied twice"
        for asset in self.tree.assets:
            file = await self.library.catalog.files.get(asset.file_id)
            assert file is not None
            async with self.library.storage.read(file.copy_path or file.path) as stream:
                assert b"".join([chunk async for chunk in stream.chunks]) == asset.content, where

    async def reset(self) -> None:
        await self.library.catalog.assets.delete(self.library.owner, [asset.id for asset in self.tree.assets])
        await self.library.sweep()
        assert_consistent(self.library.stack, exact=True)
        assert self.library.at_target() == {}


@pytest.fixture(
    params=[
        pytest.param("run-s3-postgresql", id="run"),
        pytest.param("adopt-local-sqlite", id="adopt"),
        pytest.param("run-s3-sqlite", id="run with SQLite", marks=pytest.mark.soak),
        pytest.param("adopt-local-postgresql", id="adopt with PostgreSQL", marks=pytest.mark.soak),
        pytest.param("adopt-s3-postgresql", id="adopt into S3", marks=pytest.mark.soak),
    ]
)
async def trial(
    request: pytest.FixtureRequest, stacks: Stacks, nursery: ForkServer, tmp_path: Path
) -> AsyncIterator[ForeignTrial]:
    name, engine, database = request.param.split("-")
    folder = tmp_path / "library"
    folder.mkdir()
    library = await Library.create(stacks.create("s3", folder, database=database), StorageEngine(engine))
    yield ForeignTrial(library, ForeignTree(tmp_path / "immich"), nursery, COMMANDS[name][0])
    await library.aclose()


async def test_it_dies_at_every_effect(trial: ForeignTrial, seed: int, note: Note, *, soak: bool) -> None:
    """One file at a time, so that effects are sequential. Outside the long campaigns it dies at one effect in `SHORT_STRIDE`."""
    stride = 1 if soak else SHORT_STRIDE
    first = seed % stride
    died, steps = 0, []
    for effect, after in [(1, False), *((effect, True) for effect in range(1, MANY_EFFECTS))][first::stride]:
        await trial.prepare()
        before = await asyncio.to_thread(trial.tree.state)
        status, steps = await trial.die(effect, after=after)
        await trial.check(f"{'after' if after else 'before'} effect {effect}, {steps[-1]!r}")
        assert await asyncio.to_thread(trial.tree.state) == before
        await trial.reset()
        if status == 0:
            break
        died += 1
    else:
        raise AssertionError(f"more than {MANY_EFFECTS} effects")
    note(f"{trial.command} over foreign files died {died} times, around: {', '.join(steps)}")
    wanted = {*dict(COMMANDS.values())[trial.command], WRITTEN[trial.library.to]}
    assert wanted <= set(steps)
    assert died == len(range(first, len(steps) + 1, stride))


async def test_it_dies_at_random_moments(trial: ForeignTrial, seed: int, note: Note, *, soak: bool) -> None:
    """Several files at a time: one is at the effect that the seed chooses, and the others go on for a moment."""
    dice = random.Random(seed)
    died: Counter[str] = Counter()
    most = 2 * len(dict(COMMANDS.values())[trial.command])
    for number in range(SOAK_ROUNDS if soak else SHORT_ROUNDS):
        await trial.prepare()
        before = await asyncio.to_thread(trial.tree.state)
        effect, after = dice.randrange(1, most + 1), dice.random() < 0.5
        pause = dice.uniform(0.001, LONGEST_PAUSE)
        status, steps = await trial.die(effect, after=after, concurrency=CONCURRENCY, pause=pause)
        step = steps[-1] if status else "after its end"
        died[step] += 1
        most = max(most, len(steps)) if status else len(steps)
        await trial.check(f"round {number}, seed {seed}: {step!r}")
        assert await asyncio.to_thread(trial.tree.state) == before
        await trial.reset()
    note(f"{trial.command} died at random moments: {', '.join(f'{step} {died[step]}' for step in sorted(died))}")
