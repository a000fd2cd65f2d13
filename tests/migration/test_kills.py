"""Kills each command of a move at every single effect (at one in four outside the long campaigns), and at random moments. Afterwards no object is without a row, the same command
completes the move, and no file is lost, duplicated or changed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from app.catalog.errors import MigrationBusy
from app.config import StorageEngine
from app.migration.migration_context import MigrationContext
from app.migration.reports import MoveReport
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.rollback_step import roll_back_move
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from tests.api.consistency import differences, read_state
from tests.campaign.fork_client import ForkServer
from tests.migration.library import Library
from tests.real.notes import Note

MANY_EFFECTS = 80
SHORT_STRIDE = 4
KILLS = 2
SOAK_KILLS = 50
"""Kills at random moments, per command and direction."""
KILLED_AT_RANDOM = ("run", "cleanup")
"""Outside the long campaigns only these, which work on several files at once, are killed at random moments. All commands are killed at every
effect."""
LOCK_SECONDS = 20.0
COPIED = {StorageEngine.S3: (9_000_000, 3000), StorageEngine.LOCAL: (1_800_000, 0)}
"""Size of files to be copied: more than one part on S3, two writes on a disk, whatever the chunks of the source (a write buffers at least
a mebibyte)."""
SMALL = (3000, 0)
"""Size of files where nothing is copied."""

Command = Callable[[MigrationContext], Awaitable[MoveReport]]

_COPYING = {
    StorageEngine.S3: ["object put", "multipart upload created", "part uploaded", "multipart upload completed"],
    StorageEngine.LOCAL: ["temporary file made", "bytes written", "file flushed", "file named"],
}
_SWEEPING = ["claim", "object deleted", "row forgotten"]


@dataclass(frozen=True, slots=True)
class KilledCommand:
    """A command, the commands before it, and its steps."""

    name: str
    command: Command
    before: tuple[Command, ...]
    steps: Callable[[StorageEngine], list[str]]
    ends_at_target: bool


def _cleaning(to: StorageEngine) -> list[str]:
    return ["sources doomed", *_SWEEPING, *(["folders pruned"] if to is StorageEngine.S3 else []), "migration finished"]


KILLED_COMMANDS = [
    KilledCommand(
        "run",
        run_move,
        (),
        lambda to: [
            "migration begun",
            "files planned",
            "copies begun",
            *_COPYING[to],
            "outcomes recorded",
            "migration finished",
        ],
        ends_at_target=False,
    ),
    KilledCommand(
        "switch", switch_move, (run_move,), lambda _: ["paths switched", "migration finished"], ends_at_target=True
    ),
    KilledCommand(
        "rollback",
        roll_back_move,
        (run_move, switch_move),
        lambda _: ["paths switched back", "migration finished"],
        ends_at_target=False,
    ),
    KilledCommand(
        "rollback before a switch",
        roll_back_move,
        (run_move,),
        lambda _: ["copies given up", "migration finished"],
        ends_at_target=False,
    ),
    KilledCommand("cleanup", clean_up_move, (run_move, switch_move), _cleaning, ends_at_target=True),
]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> ForkServer:
    return ForkServer(tmp_path_factory.mktemp("nursery"))


@dataclass(slots=True)
class KillTrial:
    """Kills one command on one library, repeatedly, from the same initial state."""

    library: Library
    nursery: ForkServer
    killed: KilledCommand
    seed: int = 0

    async def prepare(self) -> None:
        if not self.library.files:
            self.seed += 1
            sizes = COPIED[self.library.to] if self.killed.command is run_move else SMALL
            await self.library.fill(sizes, seed=self.seed)
        for command in self.killed.before:
            assert (await run_when_unlocked(command, self.library)).problems.count == 0
        await self.library.age()

    async def die(self, **how: str | float) -> tuple[int, list[str]]:
        settings = {
            **self.library.stack.settings,
            "IMMICH_STORAGE_ENGINE": self.library.to.value,
            "MEDIAVAULT_FSYNC": "false",
        }
        return await asyncio.to_thread(self.nursery.run, settings, command=self.killed.command.__name__, **how)  # pyright: ignore[reportArgumentType]

    async def run_to_end(self) -> list[str]:
        """Run the command to its end, and return its steps. The first run also copies objects that are copied only once."""
        await self.prepare()
        _, steps = await self.die(effect=0, after=False)
        await self.check_and_complete("alive")
        await self.reset()
        return steps

    async def check_and_complete(self, where: str) -> None:
        """Assert that all objects have rows and files are still served; then run the same command to its end."""
        found = differences(read_state(self.library.stack), exact=False)
        assert not found, f"{where}: {found}"
        await self.library.check()
        finished = await self.library.catalog.moves.get_unfinished() is None and self.killed.name != "run"
        if not finished:
            report = await run_when_unlocked(self.killed.command, self.library)
            assert report.problems.count == 0, f"{where}: {report.problems.listed}"
        base = self.library.target_base if self.killed.ends_at_target else self.library.source_base
        await self.library.check(at=base, read=False)

    async def reset(self) -> None:
        """Restore the initial state: files at the source, no move in progress, nothing to sweep."""
        if self.killed.name == "cleanup":
            await self.library.check_exact(at=self.library.target_base)
            assert not self.library.at_source()
            for kept in list(self.library.files):
                await self.library.delete(kept)
        elif await self.library.catalog.moves.get_unfinished() is not None:
            await run_when_unlocked(roll_back_move, self.library)
        if self.killed.name == "cleanup":
            await self.library.sweep()
        else:
            await self.library.check_exact(at=self.library.source_base)
            assert not self.library.at_target()


async def run_when_unlocked(command: Command, library: Library) -> MoveReport:
    """Retry until the lock is free: PostgreSQL notices the death of its holder with a delay."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return await command(library.work())
        except MigrationBusy:
            assert time.monotonic() < end, "the lock of a dead process is still held"
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("killed", KILLED_COMMANDS, ids=lambda killed: killed.name)
async def test_it_dies_at_every_effect(
    library: Library, nursery: ForkServer, killed: KilledCommand, seed: int, note: Note, *, soak: bool
) -> None:
    """One file at a time, so that effects are sequential: a kill right before an effect is one right after the previous effect. Outside the
    long campaigns it dies at one effect in `SHORT_STRIDE`; the seed tells with which to begin."""
    trial = KillTrial(library, nursery, killed)
    steps = await trial.run_to_end()
    died = 0
    stride = 1 if soak else SHORT_STRIDE
    first = seed % stride

    for effect, after in [(1, False), *((effect, True) for effect in range(1, MANY_EFFECTS))][first::stride]:
        await trial.prepare()
        status, steps = await trial.die(effect=effect, after=after, concurrency=1)
        await trial.check_and_complete(f"{'after' if after else 'before'} effect {effect}, {steps[-1]!r}")
        if status == 0:
            await library.verify()
        await trial.reset()
        if status == 0:
            break
        died += 1
    else:
        raise AssertionError(f"more than {MANY_EFFECTS} effects")

    note(f"{killed.name} to {library.to} died {died} times, before the first and after effects of: {', '.join(steps)}")
    assert died == len(range(first, len(steps) + 1, stride))
    assert set(killed.steps(library.to)) <= set(steps)


@pytest.mark.parametrize(
    "killed",
    [
        pytest.param(killed, marks=() if killed.name in KILLED_AT_RANDOM else pytest.mark.soak)
        for killed in KILLED_COMMANDS
    ],
    ids=lambda killed: killed.name,
)
async def test_it_dies_at_random_moments(
    library: Library, nursery: ForkServer, killed: KilledCommand, soak: bool, seed: int, note: Note
) -> None:
    dice = random.Random(seed)
    trial = KillTrial(library, nursery, killed)
    await trial.run_to_end()
    usual = Counter(await trial.run_to_end())
    wanted = killed.steps(library.to)
    hit: Counter[str] = Counter()

    kills = SOAK_KILLS if soak else KILLS
    for number in range(kills):
        step = wanted[number % len(wanted)] if number < len(wanted) else dice.choice(wanted)
        await trial.prepare()
        how = {"effect": dice.randint(1, usual[step]), "after": dice.random() < 0.5, "pause": dice.uniform(0.001, 0.03)}
        status, came_to = await trial.die(step=step, **how)
        if not status:  # this run had fewer steps
            await trial.check_and_complete("alive")
            await trial.reset()
            await trial.prepare()
            status, came_to = await trial.die(step=step, **(how | {"effect": 1}))
        assert status, f"it never came to {step!r}"
        hit[step] += 1
        await trial.check_and_complete(f"kill {number} at {step!r} ({how}), having come to {came_to[-1:]}")
        if number == kills - 1:
            await library.verify()
        await trial.reset()

    shown = ", ".join(f"{step} {hit[step]}" for step in wanted)
    note(f"{killed.name} to {library.to} killed at: {shown} (seed {seed})")
    if soak:
        assert all(hit[step] for step in wanted), hit
