"""Kills an import, and one who follows, right before and right after each of their transactions (some of them outside the long campaigns), and at
random moments. The same command then completes the work: the catalogue is as without the kill, and nothing of Immich's has changed."""

from __future__ import annotations

import json
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.immich.catalogue_copies import DATABASES, CatalogueCopies, Rows
from tests.immich.conftest import MakeInstallation
from tests.immich.dying_server import STAGE_SUFFIX, DyingOrder
from tests.immich.installation import Installation
from tests.immich.playing import Player
from tests.immich.tables import Generation
from tests.real.databases import DatabaseFactory, DatabaseKind
from tests.real.notes import Note
from tests.real.service import ROOT

ASSETS = 30
PLAYED = 25
SHORT_STRIDE = 6
MOST_TRANSACTIONS = 60
SHORT_ROUNDS, SOAK_ROUNDS = 2, 60
MOST_KILLS = 3
"""In a row, before the command completes its work."""
WITHIN_SECONDS = 60.0

MakeCopies = Callable[[DatabaseKind], CatalogueCopies]


class DyingServer:
    """The client of `tests.immich.dying_server`."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self._installation = installation
        self._count = folder / "count"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.immich.dying_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, db_url: str, *, is_follow: bool, transaction: int = 0, after: bool = False, delay: float = 0.0
    ) -> tuple[int, int]:
        """The exit status (negative: the signal), and the number of transactions."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        own = self._installation
        order = DyingOrder(db_url, own.url, own.media_roots, transaction, after, is_follow, str(self._count), delay)
        print(json.dumps(asdict(order)), file=self._process.stdin, flush=True)
        assert select.select([self._process.stdout], [], [], WITHIN_SECONDS)[0], "no answer of the dying server"
        status = int(self._process.stdout.readline())
        assert status in (0, -signal.SIGKILL)
        return status, int(self._count.read_text())

    def read_stage(self) -> str:
        """In which stage the last child has died."""
        return self._count.with_suffix(STAGE_SUFFIX).read_text()

    def close(self) -> None:
        """An answer that did not come is not waited for."""
        try:
            self._process.communicate(timeout=WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate(timeout=WITHIN_SECONDS)
            raise


@pytest.fixture
def installation(make_installation: MakeInstallation) -> Installation:
    return make_installation(Generation.V3, assets=ASSETS)


@pytest.fixture
def make_copies(request: pytest.FixtureRequest, database_factory: DatabaseFactory, tmp_path: Path) -> MakeCopies:
    """Catalogues of this kind; PostgreSQL is started for the first of its kind."""
    return lambda kind: CatalogueCopies(kind, database_factory, lambda: request.getfixturevalue("postgres"), tmp_path)


@pytest.fixture
def server(installation: Installation, tmp_path: Path) -> Iterator[DyingServer]:
    server = DyingServer(installation, tmp_path)
    yield server
    server.close()


@pytest.mark.parametrize("is_follow", [False, True], ids=["import", "follow"])
def test_it_dies_at_every_transaction(
    installation: Installation,
    server: DyingServer,
    make_copies: MakeCopies,
    seed: int,
    note: Note,
    is_follow: bool,
    *,
    soak: bool,
) -> None:
    """Outside the long campaigns at some, in the database that the seed chooses."""
    trials = [Trial(installation, server, make_copies(kind), is_follow) for kind in choose_databases(seed, soak=soak)]
    starts = [trial.prepare() for trial in trials]
    if is_follow:
        play(installation, seed)
    untouched = installation.fingerprint()
    for trial, start in zip(trials, starts, strict=True):
        transactions = trial.finish_once(start)
        assert 5 < transactions < MOST_TRANSACTIONS
        stride = 1 if soak else SHORT_STRIDE
        moments = [(number, after) for number in range(1, transactions + 1) for after in (False, True)]
        for number, after in moments[seed % stride :: stride]:
            where = f"{'after' if after else 'before'} transaction {number} of {transactions}"
            with trial.copies.copied(start) as killed:
                status, _ = server.run(killed, is_follow=is_follow, transaction=number, after=after)
                assert status == -signal.SIGKILL, where
                trial.check(killed, where)
        note(f"{trial} was killed at {len(moments[seed % stride :: stride])} of {len(moments)} moments")
    assert installation.fingerprint() == untouched


@pytest.mark.parametrize("is_follow", [False, True], ids=["import", "follow"])
def test_it_dies_at_random_moments(
    installation: Installation,
    server: DyingServer,
    make_copies: MakeCopies,
    seed: int,
    note: Note,
    is_follow: bool,
    *,
    soak: bool,
) -> None:
    """Several times in a row, wherever it is then."""
    dice = random.Random(seed)
    trials = [
        Trial(installation, server, make_copies(kind), is_follow) for kind in choose_databases(seed + 1, soak=soak)
    ]
    starts = [trial.prepare() for trial in trials]
    if is_follow:
        play(installation, seed)
    untouched = installation.fingerprint()
    for trial, start in zip(trials, starts, strict=True):
        trial.finish_once(start)
        died: Counter[str] = Counter()
        for number in range(SOAK_ROUNDS if soak else SHORT_ROUNDS):
            with trial.copies.copied(start) as killed:
                for _ in range(dice.randrange(1, MOST_KILLS + 1)):
                    status, _ = server.run(killed, is_follow=is_follow, delay=dice.uniform(0, trial.seconds))
                    died[server.read_stage() if status else "after its end"] += 1
                    trial.copies.wait_until_closed(killed)
                trial.check(killed, f"round {number}, seed {seed}")
        note(f"{trial} died at random moments: {', '.join(f'{stage} {died[stage]}' for stage in sorted(died))}")
    assert installation.fingerprint() == untouched


@dataclass(slots=True)
class Trial:
    """One command in one database."""

    installation: Installation
    server: DyingServer
    copies: CatalogueCopies
    is_follow: bool
    expected: dict[str, Rows] = field(default_factory=dict[str, Rows])
    seconds: float = 0.0
    """How long it took to its end."""

    def __str__(self) -> str:
        return f"{'follow' if self.is_follow else 'import'} into {self.copies.kind}"

    def prepare(self) -> str:
        """The catalogue from which each command starts."""
        start = self.copies.create()
        if self.is_follow:
            assert self.server.run(start, is_follow=False)[0] == 0
        return start

    def finish_once(self, start: str) -> int:
        """Run the command to its end on a copy, and remember what is in it then. Returns the number of transactions."""
        with self.copies.copied(start) as usual:
            began = time.monotonic()
            status, transactions = self.server.run(usual, is_follow=self.is_follow)
            self.seconds = time.monotonic() - began
            assert status == 0
            self.expected = self.copies.read(usual)
            if not self.is_follow:
                query = "SELECT count(*) FROM asset WHERE live_photo_video_id IS NOT NULL"
                linked = self.copies.select(usual, query)[0][0]
                assert linked == len(_read_links(self.installation)), "photos whose videos come pages later are linked"
        return transactions

    def check(self, killed: str, where: str) -> None:
        """The command completes the work: the catalogue is as without a kill."""
        self.copies.wait_until_closed(killed)
        assert self.server.run(killed, is_follow=self.is_follow)[0] == 0, where
        found = self.copies.read(killed)
        for table, rows in self.expected.items():
            assert found[table] == rows, f"{self}: {where}: {table}"


def choose_databases(seed: int, *, soak: bool) -> tuple[DatabaseKind, ...]:
    return DATABASES if soak else (DATABASES[seed % len(DATABASES)],)


def play(installation: Installation, seed: int) -> None:
    """Immich goes on to write."""
    player = Player(installation, seed)
    for _ in range(PLAYED):
        player.play()


def _read_links(installation: Installation) -> list[tuple[Any, ...]]:
    """Photos with videos whose file is there."""
    lost = installation.traps["lost video"]
    return installation.execute('SELECT id FROM asset WHERE "livePhotoVideoId" IS NOT NULL AND id <> %s', [lost])
